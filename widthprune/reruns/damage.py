"""What is damaged in a run's folder or in its store, which a full disk or a hand may do: it counts as not there.

Snakemake looks at which files there are, and not at what they hold.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..errors import WidthPruneError
from ..evaluation.samples import SUFFIX, read_records
from ..report.atomic import write_atomically
from ..report.results import load_results
from ..report.runs import read_run
from ..report.tasks import CHECKED_TASKS
from .records import RECORD, read_json, read_plan, read_record

TABLE, BOOK = "results.csv", Path("_build", "html", "index.html")


def damaged(plan: Mapping) -> list[Path]:
    """What lies in the store where a plan's results and their answers belong, and cannot be read."""
    return [
        path
        for store, files in jobs_in_store(plan)
        for task, file in files.items()
        for path in _parts(store / file)
        if os.path.lexists(path) and not _is_whole(path)
    ]


def stored(plan: Mapping) -> int:
    """How many of a plan's results the store holds."""
    return sum(
        _has(store, task, file) for store, files in jobs_in_store(plan) for task, file in files.items()
    )


def mend(folder: Path, plan: Mapping) -> None:
    """Have all made again that a run's folder or its store lacks or holds damaged; before the new plan is written.

    Damaged files of the store are renamed, and not removed: a later version of this package may have written them.
    """
    for path in damaged(plan):
        path.replace(f"{path}.damaged")
    _fill_store(folder, plan)
    whole = _table_is_whole(folder)
    for name, job in plan["jobs"].items():
        done = folder / "jobs" / f"{name}.json"
        try:
            said = read_json(folder, f"jobs/{name}.json")
            # A task may have ended without a number; it is not tried again.
            files = {
                task: file for task, file in job["files"].items() if file in said["measured"] + said["found"]
            }
        except (WidthPruneError, KeyError, TypeError):
            files = None
        store = Path(plan["store"], job["code"])
        if files is None or not all(_has(store, *one) for one in files.items()):
            done.unlink(missing_ok=True)
            whole = False
        else:
            whole &= all(_has(folder / "results", *one) for one in files.items())
    notebooks = [Path("notebooks", f"{name}.ipynb") for name in plan["notebooks"]]
    for path in notebooks if whole else [*notebooks, TABLE, RECORD, BOOK]:
        if not whole or not _can_be_read(read_json, folder, path):
            (folder / path).unlink(missing_ok=True)
            (folder / BOOK).unlink(missing_ok=True)


def table_text(results: Path) -> str:
    """The table of a run's results, as it lies beside them."""
    table = load_results(results).sort_values(["criterion", "pruning_pct", "seed", "task", "metric"])
    return table.to_csv(index=False)


def _fill_store(folder: Path, plan: Mapping) -> None:
    """Copy to the store what it lacks of a run's results: the folder may have been moved without it."""
    try:
        code = {name: job["code"] for name, job in read_plan(folder)["jobs"].items()}
    except (WidthPruneError, KeyError, TypeError, AttributeError):
        return
    for name, job in plan["jobs"].items():
        store, results = Path(plan["store"], job["code"]), folder / "results"
        for task, file in job["files"].items():
            same_code = code.get(name) == job["code"]
            if same_code and _has(results, task, file) and not _has(store, task, file):
                for path in reversed(_parts(Path(file))):  # the result last: it says that all is there
                    if (results / path).exists():
                        write_atomically(store / path, (results / path).read_bytes())


def jobs_in_store(plan: Mapping) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Each job's folder in the store, and task -> its results file there."""
    for job in plan["jobs"].values():
        yield Path(plan["store"], job["code"]), job["files"]


def _has(folder: Path, task: str, file: str) -> bool:
    result, answers = _parts(folder / file)
    return _is_whole(result) and (_is_whole(answers) if task in CHECKED_TASKS else True)


def _parts(result: Path) -> list[Path]:
    return [result, result.with_suffix(SUFFIX)]


def _is_whole(path: Path) -> bool:
    return _can_be_read(read_records if path.name.endswith(SUFFIX) else read_run, path)


def _can_be_read(read: Callable, *what) -> bool:
    try:
        read(*what)
    except WidthPruneError:
        return False
    return True


def _table_is_whole(folder: Path) -> bool:
    try:
        read_record(folder)
        return table_text(folder / "results") == (folder / TABLE).read_text("utf-8")
    except (WidthPruneError, OSError, ValueError):
        return False
