"""The steps of a rerun, one process each: what the rules of the Snakemake workflow call.

    python -m widthprune.reruns.steps measure|collect|notebook ...

Each works in the run's folder (the current one) and reads its plan. Measured results go to a store that
may serve many runs, under a folder named by the code that scored them.
"""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from ..commands.interrupts import Interrupted, interruptible
from ..commands.options import COUNT, Parser
from ..commands.shared import quiet_downloads
from ..errors import WidthPruneError, one_line
from ..evaluation.samples import SUFFIX
from ..report.atomic import write_atomically
from ..report.runs import read_run, result_files
from ..report.tasks import CHECKED_TASKS
from .damage import TABLE, table_text
from .fingerprint import scoring_code
from .notebooks import execute_notebook
from .records import make_record, read_here, read_plan, without_path

HERE = Path(".")


def main(arguments: list[str] | None = None) -> int:
    quiet_downloads()
    parser = Parser(prog="widthprune.reruns.steps")
    steps = parser.add_subparsers(required=True, metavar="STEP", parser_class=Parser)
    step = steps.add_parser("measure")
    step.set_defaults(run=measure)
    step.add_argument("--job", required=True)
    step.add_argument("--threads", type=COUNT, required=True)
    step = steps.add_parser("collect")
    step.set_defaults(run=collect)
    step = steps.add_parser("notebook")
    step.set_defaults(run=notebook)
    step.add_argument("--name", required=True)
    try:
        with interruptible():
            options = vars(parser.parse_args(arguments))
            options.pop("run")(**options)
    except Interrupted as interrupt:
        print(f"rerun: {interrupt}", file=sys.stderr)
        return interrupt.status
    except (WidthPruneError, OSError) as error:
        print(f"rerun: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


def measure(job: str, threads: int) -> None:
    """Measure every task of one pruned model; what the store holds already is not measured again."""
    # Here, since the other steps need none of it, and it takes seconds to import.
    import torch

    from ..evaluation.evaluate import evaluate_points
    from ..evaluation.grid import Point
    from ..evaluation.settings import Settings
    from ..models.loading import model_revision
    from .energy import measure_energy

    plan, here = read_plan(HERE), read_here(HERE)
    request, it = plan["request"], plan["jobs"][job]
    point = Point(**it["point"])
    if scoring_code(point.criterion != "none") != it["code"]:
        raise WidthPruneError("the package has changed since the plan was made: give the same command again")
    _check_revision({model_revision(here["model"])}, plan)
    folder = Path(here["store"]) / it["code"]
    before = _there(folder, it["files"].values())
    torch.set_num_threads(threads)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with measure_energy() as energy:
        settings = {name: request[name] for name in ("limit", "device", "batch_size")}
        settings |= {name: it[name] for name in ("seed", "chat_template")}
        table = evaluate_points(
            here["model"],
            list(it["files"]),
            [point],
            Settings(**settings),
            results_dir=str(folder),
            save_samples=CHECKED_TASKS,
        )
    _check_revision(table["revision"].dropna(), plan)
    there = _there(folder, it["files"].values())
    done = {"started": started, "measured": sorted(there - before), "found": sorted(before)} | energy
    write_atomically(HERE / "jobs" / f"{job}.json", json.dumps(done, indent=1) + "\n")


def _check_revision(found: Iterable[str], plan: Mapping) -> None:
    # A branch of a hub moves, a directory is saved anew: such results have other names than the plan's.
    if {*found} - {plan["revision"]}:
        raise WidthPruneError("the model has changed since the plan was made: give the same command again")


def collect() -> None:
    """Put the results of all jobs, and no others, into ``results``, with a table and a record of the run.

    Answers that can be shown beside what they were asked to do come along.
    """
    plan, here = read_plan(HERE), read_here(HERE)
    results = HERE / "results"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir()
    for it in plan["jobs"].values():
        for file in it["files"].values():
            source = Path(here["store"]) / it["code"] / file
            # A task may end without a number; the record then lacks it.
            if source.exists():
                read_run(source)
                write_atomically(results / file, source.read_bytes())
            answers = Path(file).with_suffix(SUFFIX)
            if (source.parent / answers.name).exists():
                write_atomically(results / answers, (source.parent / answers.name).read_bytes())
    write_atomically(HERE / TABLE, table_text(results))
    jobs = {name: json.loads((HERE / "jobs" / f"{name}.json").read_text("utf-8")) for name in plan["jobs"]}
    record = make_record(plan, jobs, [read_run(path) for path in result_files(results)])
    write_atomically(HERE / "record.json", json.dumps(record, indent=1) + "\n")


def notebook(name: str) -> None:
    """Execute one notebook on the collected results."""
    plan, here = read_plan(HERE), read_here(HERE)
    source = Path(here["project"]) / "notebooks" / f"{name}.ipynb"
    parameters = dict(plan["notebooks"][name])
    if "model" in parameters:
        parameters["model"] = here["model"]

    def public(text: str) -> str:
        return without_path(text, here["model"])

    execute_notebook(source, HERE / "notebooks" / source.name, parameters, cwd=HERE, public=public)


def _there(folder: Path, files: Iterable[str]) -> set[str]:
    return {file for file in files if (folder / file).exists()}


if __name__ == "__main__":
    sys.exit(main())
