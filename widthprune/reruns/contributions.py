"""Results from elsewhere: check them, and copy them into a folder of their own with their source named.

What is contributed is shown on one page and decides nothing: no other table, figure, chapter or verdict
reads that folder.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path

from ..commands.options import existing_folder, folder_to_write
from ..criteria import REGISTRY, criterion_of
from ..errors import WidthPruneError
from ..evaluation.samples import SUFFIX
from ..models.files import twins
from ..report.atomic import write_atomically
from ..report.escaping import as_line
from ..report.runs import (
    files_under,
    folders_under,
    is_profile,
    read_run,
    result_files,
    run_text,
    stored_path,
)
from ..report.schema import kind_of, metric_range, wrong_contributor
from ..report.tasks import TASKS
from .directory_checks import Problem, wrong_together
from .profile_checks import wrong_numbers, wrong_profile
from .records import results_of

CONTRIBUTED = Path("contributed")
FIRST_YEAR = 2025  # of the paper
# Means of zeros and ones: so many of n items. MC2 is a mean of probabilities, and an instruction is no item.
COUNTED = re.compile(r"acc(_norm)?|exact_match(_strict|_flexible)?|prompt_level_.+|flip_rate|empty")
NEEDED = ("torch", "transformers", "lm_eval")


def add_check(commands) -> None:
    command = commands.add_parser("check", help="check results files: a line for each problem")
    command.set_defaults(run=check)
    command.add_argument("results_dir", type=existing_folder)


def add_contribute(commands) -> None:
    command = commands.add_parser("contribute", help="check a run's results and copy them to contributed/")
    command.set_defaults(run=contribute)
    command.add_argument("source", type=existing_folder, help="a folder of `rerun`, or any results directory")
    command.add_argument("--name", required=True, help="who measured, as the book shall say it")
    command.add_argument(
        "--results-dir",
        type=folder_to_write,
        default=str(CONTRIBUTED),
        help=f"where to; default {CONTRIBUTED}",
    )


def check(options) -> None:
    problems, runs = find_problems(options.results_dir)
    for path in ignored_files(options.results_dir):
        print(f"{as_line(path)}: ignored, no results file")
    for problem in problems:
        print(problem)
    where = as_line(options.results_dir)
    if problems:
        files = len({*runs, *(problem.path for problem in problems)})
        raise WidthPruneError(f"{where}: {_count(len(problems), 'problem')} in {_count(files, 'file')}")
    print(f"{where}: {_count(len(runs), 'file')}, no problem")


def contribute(options) -> None:
    """Copy a run's results, all or none; the same command again completes what a kill cut short."""
    source = results_of(options.source)
    name = unicodedata.normalize("NFC", options.name).strip()
    if not name:
        raise WidthPruneError("name must say who measured, got nothing")
    if wrong := wrong_contributor(name):
        raise WidthPruneError(f"name {wrong[0].removeprefix('the file: ')}")
    problems, runs = find_problems(source)
    for problem in problems:
        print(problem)
    if problems:
        raise WidthPruneError(f"{as_line(source)}: {_count(len(problems), 'problem')}; nothing was copied")
    if options.results_dir.resolve().is_relative_to(source.resolve()):
        raise WidthPruneError(
            f"results-dir: {options.results_dir} lies inside {source}, whose results would be there twice: name another"
        )
    _refuse_own(options.results_dir)
    there = {path.name for path in options.results_dir.iterdir()} if options.results_dir.is_dir() else set()
    if pair := twins({*there, *(stored_path("", run["settings"]).parent.name for run in runs.values())}):
        raise WidthPruneError(f"results-dir: {options.results_dir} would hold {pair}; nothing was copied")
    texts = {
        stored_path(options.results_dir, run["settings"]): run_text(
            run["settings"], run["metrics"], run["provenance"] | {"contributor": name}
        )
        for run in runs.values()
    }
    try:
        there = {path for path in texts if path.exists()}
        if other := [path for path in texts if path in there and path.read_bytes() != texts[path].encode()]:
            raise WidthPruneError(
                f"{other[0]} exists already with other content: results of the same settings are not replaced; "
                "nothing was copied"
            )
        for path, text in texts.items():
            if path not in there:
                write_atomically(path, text)
    except OSError as error:
        raise WidthPruneError(
            f"results-dir: {error.filename or options.results_dir} cannot be written ({error.strerror}): "
            "mend it, or name another folder, and give the command again"
        ) from None
    copied = _count(len(texts) - len(there), "file")
    print(
        f"{copied} copied to {options.results_dir}, {len(there)} there already; send them as one pull request"
    )


def _refuse_own(folder: Path) -> None:
    """Keep strangers' results out of a directory whose results have no contributor: verdicts may rest on it."""
    for path in result_files(folder):
        try:
            own = "contributor" not in read_run(path)["provenance"]
        except WidthPruneError:
            continue
        if own:
            raise WidthPruneError(
                f"results-dir: {folder} holds results of this project: contributed ones go to a folder of their own, "
                f"such as {CONTRIBUTED}"
            )


def ignored_files(root: Path) -> list[Path]:
    """Files under a directory that are no results files, and neither records of answers nor a README."""
    known = {*result_files(root), *result_files(root, SUFFIX)}
    return [
        path
        for path in files_under(root)
        if path not in known and not path.is_dir() and path.name != "README.md"
    ]


def find_problems(root: Path) -> tuple[list[Problem], dict[Path, dict]]:
    """Everything wrong under a results directory, and the runs that could be read.

    Checked are, beyond the schema that every reader of results asks for, criterion and task, the metrics that
    a task has, n against the limit, standard errors against what n items can give, provenance, the file's
    place, duplicates, and that the unpruned model is there to compare with; of profiles (time and energy)
    also that their numbers add up. A file that cannot be read is one problem, and the others are checked.

    Raises
    ------
    WidthPruneError
        If the directory is not there or holds no results file.
    """
    files = result_files(root) if root.is_dir() else []
    if not files:
        raise WidthPruneError(f"results_dir: {as_line(root)} is no directory with results files")
    problems = [
        Problem(path, "is a folder under the name of a results file: move it away")
        for path in folders_under(root)
        if path.suffix == ".json"
    ]
    runs = {}
    for path in files:
        try:
            run = read_run(path)
        except WidthPruneError as error:
            problems.append(Problem(path, str(error).removeprefix(f"{as_line(path)} ")))
            continue
        runs[path] = run
        problems += [Problem(path, what) for what in _all_wrong(path, run)]
    problems += wrong_together(runs)
    return problems, runs


def _all_wrong(path: Path, run: Mapping) -> Iterator[str]:
    """What is wrong with one run, whose fields are of the types and ranges that the schema asks for."""
    kind = (wrong_profile, wrong_numbers) if is_profile(run) else (_wrong_benchmark, _wrong_metrics)
    for wrong in (_wrong_model, *kind, _wrong_names, _wrong_provenance):
        yield from wrong(run)
    folder = stored_path("", run["settings"]).parent.name
    if path.parent.name != folder:
        yield f"lies in {as_line(path.parent.name)}, and its model's folder is {folder}"


def _wrong_model(run: Mapping) -> Iterator[str]:
    it = run["settings"]
    pct, criterion = it["pruning_pct"], it["criterion"]
    if criterion != "none" and criterion_of(criterion) is None:
        yield f"settings.criterion must be none or one of {', '.join(REGISTRY)}, got {criterion!r}"
    if (criterion == "none") != (pct == 0):
        yield f"settings.criterion is {criterion} at {pct:g}%: it is none at 0% and nowhere else"
    seeded = (record := criterion_of(criterion)) is not None and record.seeded
    if "neuron_seed" in it and not seeded:
        yield f"settings.neuron_seed is for criteria that draw neurons, got it with {criterion}"
    if any(name.startswith("calibration") for name in it) and not (record and record.needs_text):
        yield f"settings.calibration is for criteria that look at data, got it with {criterion}"
    if not it.get("revision"):
        yield "settings.revision must say which model this was, got nothing"


def _wrong_benchmark(run: Mapping) -> Iterator[str]:
    it = run["settings"]
    task = it["task"]
    if task not in TASKS:
        yield f"settings.task must be one of {', '.join(TASKS)}, got {task!r}"
    elif it["num_fewshot"] != (shots := TASKS[task].num_fewshot):
        yield f"settings.num_fewshot of {task} must be {shots}, got {it['num_fewshot']}"
    if not it.get("data"):
        yield "settings.data must say which data this was, got nothing"


def _wrong_names(run: Mapping) -> Iterator[str]:
    kind, names = kind_of(run["settings"]), Counter(row["metric"] for row in run["metrics"])
    yield from (f"metrics: {name} is there {n} times" for name, n in names.items() if n > 1)
    yield from (f"metrics: {name} is none of {kind}" for name in names if metric_range(kind, name) is None)


def _wrong_metrics(run: Mapping) -> Iterator[str]:
    it = run["settings"]
    kind, names = kind_of(it), [row["metric"] for row in run["metrics"]]
    # Diagnostics describe answers and have no headline.
    if kind == "benchmark" and it["task"] in TASKS and TASKS[it["task"]].metric not in names:
        yield f"metrics: {it['task']} lacks its headline metric {TASKS[it['task']].metric}"
    for row in run["metrics"]:
        name, stderr, n = row["metric"], row["stderr"], row["n"]
        if n is None:
            yield f"metrics: n of {name} must be the number of items, got None"
            continue
        # A group spreads its limit over its tasks, at least one item each.
        leaves = TASKS[it["task"]].leaves if it["task"] in TASKS else 1
        if it["limit"] and n > it["limit"] + leaves - 1:
            yield f"metrics: n of {name} is {n}, above the limit {it['limit']}"
        counted = COUNTED.fullmatch(name) and not it["task"].endswith("_mc2")
        if counted and abs(math.remainder(row["value"] * n, 1)) > 1e-3:
            yield f"metrics: {row['value']:.6g} of {name} is no share of {_count(n, 'item')}"
        # No n numbers between 0 and 1 have a larger standard error; groups pool theirs, hence the slack.
        share = metric_range(kind, name) == (0, 1)
        if share and n > 1 and stderr > 1.05 * 0.5 / math.sqrt(n - 1):
            yield f"metrics: stderr {stderr:.4g} of {name} is more than {n} items can give"


def _wrong_provenance(run: Mapping) -> Iterator[str]:
    it = run["provenance"]
    try:
        # A clock may be in another zone, and a little wrong.
        started = datetime.fromisoformat(it.get("started", "")).date()
        known = started.year >= FIRST_YEAR and started <= date.today() + timedelta(days=2)
    except ValueError:
        known = False
    if not known:
        yield f"provenance.started must be a date and time from {FIRST_YEAR} to now, got {it.get('started')!r}"
    if not it.get("device"):
        yield "provenance.device must name the hardware, got nothing"
    if not it.get("duration_s", 0) > 0:
        yield f"provenance.duration_s must be in seconds, got {it.get('duration_s')!r}"
    if absent := [name for name in NEEDED if name not in it.get("packages", {})]:
        yield f"provenance.packages lacks the version of {', '.join(absent)}"


def _count(n: int, name: str) -> str:
    return f"{n} {name}{'' if n == 1 else 's'}"
