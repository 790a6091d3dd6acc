"""The command line: ``widthprune`` or ``python -m widthprune``."""

import argparse
import sys
from pathlib import Path

from .compare import add_compare
from .contributions import add_check, add_contribute
from .errors import WidthPruneError
from .rerun import add_rerun


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise WidthPruneError(f"{message}; `{self.prog} --help` lists what is known")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 if it worked, 2 with one line on stderr if the input was at fault."""
    parser = _Parser(prog="widthprune", description="Width pruning of GLU MLPs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for add in (add_prune, add_evaluate, add_rerun, add_compare, add_check, add_contribute):
        add(commands)
    try:
        options = parser.parse_args(arguments)
        options.run(options)
    except WidthPruneError as error:
        print(f"widthprune: error: {error}", file=sys.stderr)
        return 2
    return 0


def add_prune(commands) -> None:
    command = commands.add_parser("prune", help="prune a model and save it")
    command.set_defaults(run=prune)
    _add_model(command)
    command.add_argument("--out", type=Path, required=True, help="directory to write; must not exist yet")
    command.add_argument("--criterion", default="PPM", help="default PPM")
    command.add_argument("--pruning-pct", type=float, help="percentage of neurons to remove")
    command.add_argument("--expansion-ratio", type=float, help="intermediate size / hidden size to reach")
    command.add_argument("--multiple-of", type=int, default=1, help="round the kept size up to a multiple")
    command.add_argument("--seed", type=int, default=0, help="for the criterion RANDOM")
    command.add_argument("--dry-run", action="store_true", help="check, print the plan, write nothing")


def prune(options) -> None:
    # Imported here, so that --help and a misspelt option answer at once.
    from .checkpoint import prune_checkpoint

    plan = prune_checkpoint(
        options.model,
        options.out,
        options.criterion,
        pruning_pct=options.pruning_pct,
        expansion_ratio=options.expansion_ratio,
        multiple_of=options.multiple_of,
        seed=options.seed,
        dry_run=options.dry_run,
    )
    print(plan)
    print("nothing was written" if options.dry_run else options.out)


def add_evaluate(commands) -> None:
    command = commands.add_parser("evaluate", help="measure benchmarks over a grid of widths; resumes")
    command.set_defaults(run=evaluate)
    _add_model(command)
    command.add_argument("--suite", help="pocket (default), paper or paper-instruct")
    command.add_argument("--tasks", nargs="+", metavar="TASK", help="tasks of the suites, instead of --suite")
    command.add_argument(
        "--pruning-pcts", nargs="*", type=float, metavar="PCT", help="default 0 10 20 30 40 50 60"
    )
    command.add_argument("--expansion-ratios", nargs="*", type=float, metavar="RATIO", default=())
    command.add_argument("--criteria", nargs="+", metavar="NAME", default=("PPM",), help="default PPM")
    command.add_argument("--limit", type=int, help="items per task, a seeded random subset; default all")
    command.add_argument("--seed", type=int, default=0, help="draws the subset and RANDOM's neurons")
    command.add_argument("--results-dir", default="results", help="default results")
    command.add_argument(
        "--dtype", default="auto", help="auto (the checkpoint's), float32, bfloat16, float16"
    )
    command.add_argument("--device", default="cpu", help="cpu (default), cuda, mps")
    command.add_argument("--batch-size", type=int, default=8)
    command.add_argument("--max-length", type=int, help="longest text in tokens; default the model's own")


def evaluate(options) -> None:
    from .evaluate import PAPER_PCTS, evaluate
    from .tasks import headline

    if options.suite and options.tasks:
        raise WidthPruneError("give --suite or --tasks, not both")
    table = evaluate(
        options.model,
        options.tasks or options.suite or "pocket",
        pruning_pcts=PAPER_PCTS if options.pruning_pcts is None else options.pruning_pcts,
        expansion_ratios=options.expansion_ratios,
        criteria=options.criteria,
        limit=options.limit,
        seed=options.seed,
        results_dir=options.results_dir,
        dtype=options.dtype,
        device=options.device,
        batch_size=options.batch_size,
        max_length=options.max_length,
    )
    if len(table):
        columns = ["criterion", "pruning_pct", "expansion_ratio", "task", "metric", "value", "stderr", "n"]
        print(headline(table)[columns].to_string(index=False, float_format="{:.4g}".format))
    for task, reason in table.attrs["missing"].items():
        print(f"missing: {task}: {reason}")


def _add_model(command) -> None:
    command.add_argument("model", help="smollm2-135m-instruct, gemma3-270m, a local directory or a hub id")


if __name__ == "__main__":
    sys.exit(main())
