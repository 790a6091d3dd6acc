"""The command line: ``widthprune`` or ``python -m widthprune``."""

import os
import sys
from collections.abc import Iterable
from importlib import import_module

from .commands.interrupts import Interrupted, interruptible
from .commands.options import (
    COUNT,
    PERCENTAGE,
    RATIO,
    SECONDS,
    SEED,
    TOKENS,
    Distinct,
    Parser,
    criterion,
    existing_file,
    existing_folder,
    file_to_write,
    folder,
    folder_to_write,
    model_name,
    workload,
)
from .criteria import CRITERIA, REGISTRY, find_criterion
from .errors import WidthPruneError, one_line
from .evaluation.suites import SUITES

# Command -> the module ("": this one) and the function that add it.
COMMANDS = {
    "prune": ("", "add_prune"),
    "evaluate": ("", "add_evaluate"),
    "profile": ("", "add_profile"),
    "rerun": (".reruns.rerun", "add_rerun"),
    "floors": ("", "add_floors"),
    "diagnose": ("", "add_diagnose"),
    "compare": (".reruns.compare", "add_compare"),
    "check": (".reruns.contributions", "add_check"),
    "contribute": (".reruns.contributions", "add_contribute"),
}
KNOWN_TASKS = (*SUITES["paper"], *SUITES["pocket"])
SEVERAL = {"nargs": "+", "action": Distinct}
ANY = {"nargs": "*", "action": Distinct}


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        0 if it worked; with one line on stderr, 2 if the input was at fault, and 128 + the number of a
        signal that stopped it: 130 after Ctrl-C, 143 after SIGTERM.
    """
    try:
        with interruptible():
            return _main(arguments)
    except Interrupted as interrupt:
        print(f"widthprune: {interrupt}", file=sys.stderr)
        return interrupt.status


def _main(arguments: list[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    # The parser of one command needs no other's module: a plan of pruning then imports no torch.
    parser = make_parser([name for name in arguments[:1] if name in COMMANDS] or COMMANDS)
    try:
        options = parser.parse_args(arguments)
        options.run(options)
        sys.stdout.flush()
    except WidthPruneError as error:
        print(f"widthprune: error: {one_line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough; Python would flush once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # A full disk, a folder that vanished: the system's own words say what to mend.
        print(f"widthprune: error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def make_parser(names: Iterable[str] = COMMANDS) -> Parser:
    """The parser of these commands."""
    parser = Parser(prog="widthprune", description="Width pruning of GLU MLPs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for name in names:
        module, adder = COMMANDS[name]
        home = import_module(module, __package__) if module else sys.modules[__name__]
        getattr(home, adder)(commands)
    return parser


def add_prune(commands) -> None:
    command = commands.add_parser("prune", help="prune a model and save it")
    command.set_defaults(run=prune)
    _add_model(command)
    command.add_argument(
        "--out", type=folder_to_write, required=True, help="directory to write; must not exist yet"
    )
    command.add_argument(
        "--criterion", type=criterion, default="PPM", help=f"default PPM; of {', '.join(REGISTRY)}"
    )
    several = "; several values write OUT/NAME for each, in one pass"
    command.add_argument(
        "--pruning-pct",
        type=PERCENTAGE,
        **SEVERAL,
        metavar="PCT",
        help=f"percentage of neurons to remove{several}",
    )
    command.add_argument(
        "--expansion-ratio",
        type=RATIO,
        **SEVERAL,
        metavar="RATIO",
        help=f"intermediate size / hidden size to reach{several}",
    )
    command.add_argument("--multiple-of", type=COUNT, default=1, help="round the kept size up to a multiple")
    command.add_argument(
        "--seed", type=SEED, default=0, help="for RANDOM, and for drawing from a long calibration text"
    )
    _add_calibration(command)
    _add_dry_run(command)


def prune(options) -> None:
    # Imported here, so that --help and a misspelt option answer at once.
    prune_by, looks = _way_to_prune(options)
    # One value names one model, which is OUT itself.
    pct, ratio = (
        value[0] if value and len(value) == 1 else value
        for value in (options.pruning_pct, options.expansion_ratio)
    )
    plans = prune_by(
        options.model,
        options.out,
        options.criterion,
        pruning_pct=pct,
        expansion_ratio=ratio,
        multiple_of=options.multiple_of,
        seed=options.seed,
        dry_run=options.dry_run,
        **looks,
    )
    for plan in plans if isinstance(plans, list) else [plans]:
        print(plan)
    print("nothing was written" if options.dry_run else options.out)


def _way_to_prune(options):
    """The function that prunes, and its own arguments: tensor by tensor unless the whole model is needed."""
    if options.global_widths or find_criterion(options.criterion).needs_text:
        from .checkpoints.loaded import prune_loaded

        looks = {"calibration": _calibration(options), "global_widths": options.global_widths}
        return prune_loaded, looks
    if options.calibration is not None:
        raise WidthPruneError(f"criterion {options.criterion} looks at no data: leave out --calibration")
    from .checkpoints.stream import prune_checkpoint

    return prune_checkpoint, {}


def add_evaluate(commands) -> None:
    command = commands.add_parser("evaluate", help="measure benchmarks over a grid of widths; resumes")
    command.set_defaults(run=evaluate)
    _add_model(command)
    command.add_argument("--suite", choices=SUITES, help="pocket (default), paper or paper-instruct")
    command.add_argument(
        "--tasks",
        choices=KNOWN_TASKS,
        **SEVERAL,
        metavar="TASK",
        help="tasks of the suites, instead of --suite",
    )
    command.add_argument(
        "--pruning-pcts", type=PERCENTAGE, **ANY, metavar="PCT", help="default 0 10 20 30 40 50 60"
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
    command.add_argument(
        "--dtype", default="auto", help="auto (the checkpoint's), float32, bfloat16, float16"
    )
    command.add_argument("--device", default="cpu", help="cpu (default), cuda, mps")
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
    _add_calibration(command)
    _add_dry_run(command)


def evaluate(options) -> None:
    from .evaluation.evaluate import evaluate
    from .evaluation.grid import PAPER_PCTS
    from .report.tasks import headline

    _check_conflicts(options)
    table = evaluate(
        options.model,
        options.tasks or options.suite or "pocket",
        pruning_pcts=PAPER_PCTS if options.pruning_pcts is None else options.pruning_pcts,
        expansion_ratios=options.expansion_ratios,
        criteria=options.criteria,
        limit=options.limit,
        seed=options.seed,
        neuron_seeds=options.neuron_seeds,
        results_dir=options.results_dir,
        save_samples=options.save_samples,
        dtype=options.dtype,
        device=options.device,
        compute_dtype=options.compute_dtype,
        batch_size=options.batch_size,
        max_length=options.max_length,
        chat_template=options.chat_template,
        backend=options.backend,
        calibration=_calibration(options),
        global_widths=options.global_widths,
        dry_run=options.dry_run,
    )
    if len(table) and not options.dry_run:
        columns = ["criterion", "pruning_pct", "expansion_ratio", "task", "metric", "value", "stderr", "n"]
        print(headline(table)[columns].to_string(index=False, float_format="{:.4g}".format))
    _print_rest(table, options)


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


def _print_rest(table, options) -> None:
    """What could not be measured and why, and how much a dry run would measure."""
    for task, reason in table.attrs["missing"].items():
        print(f"missing: {task}: {reason}")
    if options.dry_run:
        asked, stored = table.attrs["asked"], table.attrs["stored"]
        print(
            f"{asked} runs asked, {stored} of them stored, {asked - stored} to measure; nothing was written"
        )


def _add_calibration(command) -> None:
    command.add_argument(
        "--calibration",
        type=existing_file,
        metavar="FILE",
        help="text or JSON Lines for criteria that look at data; default the package's own",
    )
    command.add_argument(
        "--calibration-sequences", type=COUNT, default=128, metavar="N", help="at most; default 128"
    )
    command.add_argument(
        "--calibration-length", type=TOKENS, default=256, metavar="TOKENS", help="of a sequence; default 256"
    )
    command.add_argument(
        "--global",
        dest="global_widths",
        action="store_true",
        help="let neurons compete across layers, each of which then has a width of its own",
    )


def _calibration(options):
    from .calibration import Calibration

    lengths = (options.calibration_sequences, options.calibration_length)
    return Calibration(options.calibration, *lengths, options.seed)


def add_floors(commands) -> None:
    command = commands.add_parser("floors", help="what a responder that knows nothing scores")
    command.set_defaults(run=floors)
    command.add_argument(
        "--suite", choices=(*SUITES, *KNOWN_TASKS), **SEVERAL, default=["pocket"], metavar="SUITE"
    )
    command.add_argument("--out", type=file_to_write, required=True, help="CSV file to write")


def floors(options) -> None:
    import pandas as pd

    from .audit.floors import compute_floors, save_floors

    tables = [compute_floors(suite) for suite in options.suite]
    save_floors(pd.concat(tables, ignore_index=True), options.out)
    print(options.out)
    for task, reason in (pair for table in tables for pair in table.attrs["missing"].items()):
        print(f"missing: {task}: {reason}")


def add_diagnose(commands) -> None:
    command = commands.add_parser(
        "diagnose", help="why scores moved, from the answers kept by --save-samples"
    )
    command.set_defaults(run=diagnose)
    command.add_argument(
        "--results-dir", type=existing_folder, default="results", help="read and written; default results"
    )


def diagnose(options) -> None:
    from .audit.diagnostics import diagnose

    for path in diagnose(options.results_dir):
        print(path)


def add_profile(commands) -> None:
    command = commands.add_parser("profile", help="measure time and energy over a grid of widths; resumes")
    command.set_defaults(run=profile)
    _add_model(command)
    command.add_argument(
        "--workloads",
        type=workload,
        **SEVERAL,
        metavar="NAME",
        help="default all: see widthprune.efficiency.workloads",
    )
    protocols = ("free", "fixed")
    command.add_argument("--protocols", choices=protocols, **SEVERAL, metavar="NAME", default=protocols)
    command.add_argument("--pruning-pcts", type=PERCENTAGE, **ANY, metavar="PCT")
    command.add_argument(
        "--criterion", type=criterion, default="PPM", help=f"default PPM; of {', '.join(CRITERIA)}"
    )
    command.add_argument("--multiples", type=COUNT, **SEVERAL, metavar="N", default=(1,), help="align sizes")
    command.add_argument("--random-weights", action="store_true", help="true shapes, no checkpoint")
    command.add_argument("--prompts", type=COUNT, help="default the workload's own")
    command.add_argument("--max-new-tokens", type=COUNT, help="default the workload's own")
    command.add_argument("--seeds", type=SEED, **SEVERAL, default=(42, 123, 456))
    command.add_argument("--no-energy", action="store_true", help="times only; needs no codecarbon")
    command.add_argument("--idle-s", type=SECONDS, default=10, help="seconds of idle power; default 10")
    command.add_argument("--results-dir", type=folder, default="results", help="default results")
    command.add_argument("--dtype", default="auto")
    command.add_argument("--device", default="cpu", help="cpu (default), cuda, mps")
    _add_dry_run(command)


def profile(options) -> None:
    from .efficiency.profiling import profile_model
    from .efficiency.workloads import WORKLOADS
    from .evaluation.grid import PAPER_PCTS

    table = profile_model(
        options.model,
        options.workloads or tuple(WORKLOADS),
        protocols=options.protocols,
        pruning_pcts=PAPER_PCTS if options.pruning_pcts is None else options.pruning_pcts,
        criterion=options.criterion,
        multiples=options.multiples,
        random_weights=options.random_weights,
        prompts=options.prompts,
        max_new_tokens=options.max_new_tokens,
        seeds=options.seeds,
        energy=not options.no_energy,
        idle_s=options.idle_s,
        results_dir=options.results_dir,
        dtype=options.dtype,
        device=options.device,
        dry_run=options.dry_run,
    )
    if len(table) and not options.dry_run:
        shown = table[table["metric"].isin(["ttlt_ms_p50", "ms_per_token_p50", "net_j_per_token"])]
        columns = ["pruning_pct", "task", "protocol", "seed", "metric", "value", "n"]
        print(shown[columns].to_string(index=False, float_format="{:.4g}".format))
    _print_rest(table, options)


def _add_dry_run(command) -> None:
    command.add_argument(
        "--dry-run", action="store_true", help="check all that the run would need, count, write nothing"
    )


def _add_model(command) -> None:
    command.add_argument(
        "model",
        type=model_name,
        help="a packaged model such as smollm2-135m-instruct, a local directory, a GGUF file, or a hub id[@revision]",
    )


if __name__ == "__main__":
    sys.exit(main())
