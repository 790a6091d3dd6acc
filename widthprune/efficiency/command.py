"""`widthprune profile`."""

from ..commands.options import COUNT, PERCENTAGE, SECONDS, SEED, argument, criterion, folder
from ..commands.shared import ANY, SEVERAL, add_dry_run, add_model, add_placement, print_sweep
from ..criteria import CRITERIA
from ..evaluation.grid import PAPER_PCTS


@argument
def workload(text: str) -> str:
    """The name of a workload."""
    # Imported here, as its module needs torch, which --help does without.
    from .workloads import find_workload

    find_workload(text)
    return text


def add_profile(commands) -> None:
    command = commands.add_parser("profile", help="measure time and energy over a grid of widths; resumes")
    command.set_defaults(run=profile)
    add_model(command)
    command.add_argument(
        "--workloads",
        type=workload,
        **SEVERAL,
        metavar="NAME",
        help="default all: see widthprune.efficiency.workloads",
    )
    protocols = ("free", "fixed")
    command.add_argument("--protocols", choices=protocols, **SEVERAL, metavar="NAME", default=protocols)
    command.add_argument("--pruning-pcts", type=PERCENTAGE, **ANY, metavar="PCT", default=PAPER_PCTS)
    command.add_argument(
        "--criterion", type=criterion, default="PPM", help=f"default PPM; of {', '.join(CRITERIA)}"
    )
    command.add_argument("--multiples", type=COUNT, **SEVERAL, metavar="N", default=(1,), help="align sizes")
    command.add_argument("--random-weights", action="store_true", help="true shapes, no checkpoint")
    command.add_argument("--prompts", type=COUNT, help="default the workload's own")
    command.add_argument("--max-new-tokens", type=COUNT, help="default the workload's own")
    command.add_argument("--seeds", type=SEED, **SEVERAL, default=(42, 123, 456))
    command.add_argument(
        "--no-energy", dest="energy", action="store_false", help="times only; needs no codecarbon"
    )
    command.add_argument("--idle-s", type=SECONDS, default=10, help="seconds of idle power; default 10")
    command.add_argument("--results-dir", type=folder, default="results", help="default results")
    add_placement(command)
    add_dry_run(command)


def profile(options) -> None:
    from .profiling import profile_model

    # Options have the names of the function's arguments, and what is not said has its default.
    asked = {name: value for name, value in vars(options).items() if name != "run" and value is not None}
    table = profile_model(**asked)
    shown = ["ttlt_ms_p50", "ms_per_token_p50", "net_j_per_token"]
    columns = ["pruning_pct", "task", "protocol", "seed", "metric", "value", "n"]
    print_sweep(table, options, lambda rows: rows[rows["metric"].isin(shown)], columns)
