"""Results from elsewhere: check them, and add them to a results directory with their source named."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..activation_criteria import ALL_CRITERIA
from ..errors import WidthPruneError
from ..grid import GLOBAL
from ..options import existing_folder, folder_to_write
from ..results import SAME_KIND, is_profile, read_run, run_key, run_path, write_run
from ..suites import SUITES
from ..tasks import TASKS
from .profile_checks import wrong_numbers, wrong_profile

NEEDED = ("torch", "transformers", "lm_eval")
# A group spreads its limit over its tasks, at least one item each.
GROUPS = {"mmlu": 57, "leaderboard_musr": 3}


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one file."""

    path: Path
    what: str

    def __str__(self):
        return f"{self.path}: {self.what}"


def add_check(commands) -> None:
    command = commands.add_parser("check", help="check results files: a line for each problem")
    command.set_defaults(run=check)
    command.add_argument("results_dir", type=existing_folder)


def add_contribute(commands) -> None:
    command = commands.add_parser("contribute", help="check a run's results and copy them in, source named")
    command.set_defaults(run=contribute)
    command.add_argument("source", type=existing_folder, help="a folder of `rerun`, or any results directory")
    command.add_argument("--name", required=True, help="who measured, as the book shall say it")
    command.add_argument("--results-dir", type=folder_to_write, default="results", help="default results")


def check(options) -> None:
    problems, runs = find_problems(options.results_dir)
    for problem in problems:
        print(problem)
    if problems:
        raise WidthPruneError(
            f"{options.results_dir}: {_count(problems, 'problem')} in {_count(runs, 'file')}"
        )
    print(f"{options.results_dir}: {_count(runs, 'file')}, no problem")


def contribute(options) -> None:
    source = options.source / "results" if (options.source / "record.json").exists() else options.source
    if not options.name.strip():
        raise WidthPruneError("name must say who measured, got nothing")
    problems, runs = find_problems(source)
    for problem in problems:
        print(problem)
    if problems:
        raise WidthPruneError(f"{source}: {_count(problems, 'problem')}; nothing was copied")
    if there := [run for run in runs.values() if run_path(options.results_dir, run["settings"]).exists()]:
        path = run_path(options.results_dir, there[0]["settings"])
        raise WidthPruneError(f"{path} exists already: results of the same settings are not replaced")
    for run in runs.values():
        metrics = [
            row | {"stderr": None if math.isnan(row["stderr"]) else row["stderr"]} for row in run["metrics"]
        ]
        write_run(
            options.results_dir, run["settings"], metrics, run["provenance"] | {"contributor": options.name}
        )
    print(f"{_count(runs, 'file')} copied to {options.results_dir}; send them as one pull request")


def find_problems(root: Path) -> tuple[list[Problem], dict[Path, dict]]:
    """Everything wrong under a results directory, and the runs that could be read.

    Checked are the schema, types, units and ranges of settings and numbers, n against the limit, standard
    errors against what n items can give, provenance, the file's place, duplicates, and that the unpruned
    model is there to compare with; of profiles (time and energy) also that their numbers add up.

    Raises
    ------
    WidthPruneError
        If the directory is not there or holds no results file.
    """
    files = sorted(root.rglob("*.json")) if root.is_dir() else []
    if not files:
        raise WidthPruneError(f"results_dir: {root} is no directory with results files")
    problems, runs = [], {}
    for path in files:
        try:
            run = read_run(path)
        except WidthPruneError as error:
            problems.append(Problem(path, str(error).removeprefix(f"{path} ")))
            continue
        runs[path] = run
        problems += [Problem(path, what) for what in _all_wrong(path, run)]
    problems += _duplicates(runs)
    problems += _without_baseline(runs)
    return problems, runs


def _all_wrong(path: Path, run: Mapping) -> Iterator[str]:
    """What is wrong with one run; a value of the wrong type stops its own check, not the others."""
    kind = (wrong_profile, wrong_numbers) if is_profile(run) else (_wrong_benchmark, _wrong_metrics)
    for wrong in (_wrong_model, *kind, _wrong_provenance):
        try:
            yield from wrong(run)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            what = wrong.__name__.rpartition("wrong_")[2]
            yield f"{what} cannot be read: {type(error).__name__} {error}"
    folder = run_path("", run["settings"]).parent.name
    if path.parent.name != folder:
        yield f"lies in {path.parent.name}, and its model's folder is {folder}"


def _wrong_model(run: Mapping) -> Iterator[str]:
    it = run["settings"]
    pct, criterion = it["pruning_pct"], it["criterion"]
    if not 0 <= pct < 100:
        yield f"pruning_pct must be in [0, 100), got {pct}"
    if criterion.removesuffix(GLOBAL) not in (*ALL_CRITERIA, "none"):
        yield f"criterion must be none or one of {', '.join(ALL_CRITERIA)}, got {criterion!r}"
    if (criterion == "none") != (pct == 0):
        yield f"criterion is {criterion} at {pct:g}%: it is none at 0% and nowhere else"
    if not (isinstance(it["intermediate_size"], int) and it["intermediate_size"] > 0):
        yield f"intermediate_size must be a whole number of neurons, got {it['intermediate_size']!r}"
    if not 0 < it["expansion_ratio"] < 100:
        yield f"expansion_ratio must be d_ff / d_model, got {it['expansion_ratio']}"
    if not it.get("revision"):
        yield "revision must say which model this was, got nothing"


def _wrong_benchmark(run: Mapping) -> Iterator[str]:
    it = run["settings"]
    task = it["task"]
    if task not in TASKS:
        yield f"task must be one of {', '.join(TASKS)}, got {task!r}"
    elif it["num_fewshot"] != (shots := (SUITES["paper"] | SUITES["pocket"])[task]):
        yield f"num_fewshot of {task} must be {shots}, got {it['num_fewshot']}"
    if it["limit"] is not None and not (isinstance(it["limit"], int) and it["limit"] > 0):
        yield f"limit must be a whole number of items, or null for all, got {it['limit']!r}"
    if not it.get("data"):
        yield "data must say which data this was, got nothing"


def _wrong_metrics(run: Mapping) -> Iterator[str]:
    it = run["settings"]
    names = [row["metric"] for row in run["metrics"]]
    described = "diagnostics" in it  # numbers about answers, with units of their own and no headline
    yield from (f"{name} is there {n} times" for name, n in Counter(names).items() if n > 1)
    if not described and it["task"] in TASKS and TASKS[it["task"]].metric not in names:
        yield f"{it['task']} lacks its headline metric {TASKS[it['task']].metric}"
    for row in run["metrics"]:
        name, value, stderr, n = row["metric"], row["value"], row["stderr"], row["n"]
        if not n or n < 1:
            yield f"{name}: n must be the number of items, got {n}"
            continue
        if it["limit"] and n > it["limit"] + GROUPS.get(it["task"], 1) - 1:
            yield f"{name}: n is {n}, above the limit {it['limit']}"
        if stderr < 0:
            yield f"{name}: stderr must not be negative, got {stderr}"
        # Perplexities and bits have no upper end; everything else is a share of items.
        if "perplexity" in name:
            if value < 1:
                yield f"{name} must be at least 1, got {value}"
        elif "byte" not in name and not described:
            if not (0 <= value <= 1 or math.isnan(value)):
                yield f"{name} must be a share from 0 to 1, got {value}"
            # No n numbers between 0 and 1 have a larger standard error; groups pool theirs, hence the slack.
            elif n > 1 and stderr > 1.05 * 0.5 / math.sqrt(n - 1):
                yield f"{name}: stderr {stderr:.4g} is more than {n} items can give"


def _wrong_provenance(run: Mapping) -> Iterator[str]:
    it = run["provenance"]
    try:
        datetime.fromisoformat(it.get("started", ""))
    except ValueError:
        yield f"provenance: started must be a date and time, got {it.get('started')!r}"
    if not it.get("device"):
        yield "provenance: device must name the hardware, got nothing"
    if not it.get("duration_s", 0) > 0:
        yield f"provenance: duration_s must be in seconds, got {it.get('duration_s')!r}"
    if absent := [name for name in NEEDED if name not in it.get("packages", {})]:
        yield f"provenance: packages lacks the version of {', '.join(absent)}"


def _duplicates(runs: Mapping[Path, Mapping]) -> Iterator[Problem]:
    seen = {}
    for path, run in runs.items():
        key = run_key(run["settings"])
        if key in seen:
            yield Problem(path, f"has the same settings as {seen[key]}")
        seen.setdefault(key, path)


def _without_baseline(runs: Mapping[Path, Mapping]) -> Iterator[Problem]:
    def sweep(settings):
        names = ("model", "task", *SAME_KIND)
        names += ("protocol", "weights", "max_new_tokens", "threads", "device")  # of profiles
        return tuple(settings.get(name) for name in names)

    whole = {sweep(run["settings"]) for run in runs.values() if run["settings"]["pruning_pct"] == 0}
    for path, run in runs.items():
        if sweep(run["settings"]) not in whole:
            yield Problem(path, "its unpruned model has no result with the same task, limit, seed and data")


def _count(things, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
