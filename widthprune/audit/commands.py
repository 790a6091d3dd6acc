"""`widthprune floors` and `widthprune diagnose`."""

from ..commands.options import existing_folder, file_to_write
from ..commands.shared import SEVERAL
from ..errors import WidthPruneError
from ..report.tasks import SUITES, TASKS


def add_floors(commands) -> None:
    command = commands.add_parser("floors", help="what a responder that knows nothing scores")
    command.set_defaults(run=floors)
    command.add_argument("--suite", choices=(*SUITES, *TASKS), **SEVERAL, default=["pocket"], metavar="SUITE")
    command.add_argument("--out", type=file_to_write, required=True, help="CSV file to write")


def floors(options) -> None:
    from .floors import compute_floors, save_floors

    table = compute_floors(options.suite)  # at once: a task of two of the suites has its floors once
    if table.empty:
        task, reason = next(iter(table.attrs["missing"].items()))
        raise WidthPruneError(f"there are no floors to write: {task}: {reason}")
    save_floors(table, options.out)
    print(options.out)
    for task, reason in table.attrs["missing"].items():
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
    from ..evaluation.samples import SUFFIX
    from ..report.runs import result_files
    from .diagnostics import diagnose

    if not result_files(options.results_dir, SUFFIX):
        raise WidthPruneError(
            f"{options.results_dir} keeps no answers to diagnose: measure again by `widthprune evaluate` with "
            "--save-samples, which keeps them"
        )
    written = diagnose(options.results_dir)
    for path in written:
        print(path)
    if not written:
        print("nothing new: all answers that are kept were diagnosed before")
