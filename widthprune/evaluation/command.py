"""`widthprune evaluate`."""

from ..commands.options import COUNT, PERCENTAGE, RATIO, SEED, TOKENS, criterion, folder
from ..commands.shared import (
    ANY,
    SEVERAL,
    add_calibration,
    add_dry_run,
    add_model,
    add_placement,
    calibration_of,
    print_sweep,
)
from ..criteria import REGISTRY, find_criterion
from ..errors import WidthPruneError
from ..report.tasks import SUITES, TASKS
from .grid import PAPER_PCTS

OTHERWISE = ("run", "suite", "tasks", "calibration", "calibration_sequences", "calibration_length")


def add_evaluate(commands) -> None:
    command = commands.add_parser("evaluate", help="measure benchmarks over a grid of widths; resumes")
    command.set_defaults(run=evaluate)
    add_model(command)
    command.add_argument("--suite", choices=SUITES, help="pocket (default), paper or paper-instruct")
    command.add_argument(
        "--tasks",
        choices=TASKS,
        **SEVERAL,
        metavar="TASK",
        help="tasks of the suites, instead of --suite",
    )
    command.add_argument(
        "--pruning-pcts",
        type=PERCENTAGE,
        **ANY,
        metavar="PCT",
        default=PAPER_PCTS,
        help=f"default {' '.join(map(str, PAPER_PCTS))}",
    )
    command.add_argument("--expansion-ratios", type=RATIO, **ANY, metavar="RATIO", default=())
    command.add_argument(
        "--criteria",
        type=criterion,
        **SEVERAL,
        metavar="NAME",
        default=("PPM",),
        help=f"default PPM; of {', '.join(REGISTRY)}",
    )
    command.add_argument("--limit", type=COUNT, help="items per task, a seeded random subset; default all")
    command.add_argument(
        "--seed", type=SEED, default=0, help="draws the subset, RANDOM's neurons, calibration text"
    )
    command.add_argument(
        "--neuron-seeds",
        type=SEED,
        **SEVERAL,
        metavar="SEED",
        default=(),
        help="draws of RANDOM, on the same items",
    )
    command.add_argument("--results-dir", type=folder, default="results", help="default results")
    command.add_argument("--save-samples", action="store_true", help="keep the answer to every item as well")
    add_placement(command)
    command.add_argument(
        "--compute-dtype",
        default="auto",
        help="of the arithmetic: auto (float32 where the processor emulates the weights' own), weights, or a dtype",
    )
    command.add_argument("--batch-size", type=COUNT, default=8)
    command.add_argument("--max-length", type=TOKENS, help="longest text in tokens; default the model's own")
    command.add_argument(
        "--chat-template", action="store_true", help="put prompts into the tokenizer's chat template"
    )
    command.add_argument("--backend", default="hf", help="hf (default), stock (lm-eval's own class) or vllm")
    add_calibration(command)
    add_dry_run(command)


def evaluate(options) -> None:
    from ..report.tasks import headline
    from .evaluate import evaluate

    _check_conflicts(options)
    # The other options have the names of the function's arguments.
    asked = {name: value for name, value in vars(options).items() if name not in OTHERWISE}
    tasks = options.tasks or options.suite or "pocket"
    table = evaluate(tasks=tasks, calibration=calibration_of(options), **asked)
    columns = ["criterion", "pruning_pct", "expansion_ratio", "task", "metric", "value", "stderr", "n"]
    print_sweep(table, options, headline, columns)


def _check_conflicts(options) -> None:
    """Refuse options of `evaluate` that the others leave without effect."""
    if options.suite and options.tasks:
        raise WidthPruneError("give --suite or --tasks, not both")
    if options.calibration and not any(find_criterion(name).needs_text for name in options.criteria):
        raise WidthPruneError(
            f"criteria {', '.join(options.criteria)} look at no data: leave out --calibration"
        )
    if options.neuron_seeds and "RANDOM" not in options.criteria:
        raise WidthPruneError("--neuron-seeds are of the criterion RANDOM: add it to --criteria")
