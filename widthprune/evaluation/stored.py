"""What a chapter shows: results that are stored, and only where it may measure, results that it makes.

Stored results are found by name, width and settings alone, so that a book can be built where no model is: no torch here.
"""

import shlex
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import pandas as pd

from ..commands.options import SEED, check_list
from ..criteria import find_criterion
from ..errors import WidthPruneError
from ..report.results import one_sweep, public_name, stored_results
from ..report.tasks import SUITES, TASKS
from .grid import PAPER_PCTS, Point, grid


def stored_or_measured(
    model: str, tasks: str | Sequence[str] = "pocket", *, measure: bool, results_dir: str = "results", **asked
) -> pd.DataFrame:
    """`evaluate` where a notebook may measure; otherwise the same table from what is stored, or a refusal.

    Parameters
    ----------
    model, tasks, results_dir, asked
        As for `widthprune.evaluation.evaluate.evaluate`.
    measure : bool
        Whether what is missing may be measured, which takes minutes.

    Raises
    ------
    WidthPruneError
        If a result is missing and may not be measured: it names each, and the command that measures them.
    """
    if measure:
        from .evaluate import evaluate

        return evaluate(model, tasks, results_dir=results_dir, **asked)
    found, missing = find_stored(model, tasks, results_dir=results_dir, **asked)
    if missing:
        refuse(missing, model, results_dir, command_line(model, tasks, **asked))
    return found


def find_stored(
    model: str,
    tasks: str | Sequence[str],
    *,
    results_dir: str | Path,
    having: Collection[str] = (),
    pruning_pcts: Iterable[float] = PAPER_PCTS,
    expansion_ratios: Iterable[float] = (),
    criteria: Iterable[str] = ("PPM",),
    neuron_seeds: Iterable[int] = (),
    limit: int | None = None,
    seed: int = 0,
    chat_template: bool = False,
    device: str = "cpu",
) -> tuple[pd.DataFrame, list[str]]:
    """The rows of a grid that a results directory holds, and each result that it lacks, in words.

    Of several kinds of runs (revisions, data), those of one, as `one_sweep` chooses it. ``having`` are names of
    metrics: a result counts as there if it has one of these. ``device`` is where `evaluate` would measure.
    """
    tasks = task_names(tasks)
    table = stored_results(results_dir)
    same = table["limit"].isna() if limit is None else table["limit"].eq(limit).fillna(False).astype(bool)
    same &= (table["model"] == public_name(model)) & table["task"].isin(tasks) & (table["seed"] == seed)
    rows = one_sweep(table[same & (table["chat_template"] == chat_template)])
    whole = rows[rows["criterion"] == "none"]
    if whole.empty:
        return rows, [f"{task} of the unpruned model" for task in tasks]
    size, ratio = whole[["intermediate_size", "expansion_ratio"]].iloc[0]
    points = grid(
        int(size),
        round(size / ratio),
        pruning_pcts=pruning_pcts,
        expansion_ratios=expansion_ratios,
        criteria=criteria,
        neuron_seeds=list(dict.fromkeys(check_list("neuron_seeds", neuron_seeds, SEED))) or [seed],
    )
    found = [rows[_of(rows, point)] for point in points]
    missing = [
        _in_words(task, point)
        for point, of_point in zip(points, found, strict=True)
        for task in tasks
        if not (of_point["task"].eq(task) & (of_point["metric"].isin(having) if having else True)).any()
    ]
    return pd.concat(found, ignore_index=True), missing


def task_names(tasks: str | Sequence[str]) -> list[str]:
    """The tasks of a suite, or those named, each once."""
    names = [tasks] if isinstance(tasks, str) else tasks
    return list(dict.fromkeys(task for name in names for task in SUITES.get(name, [name])))


def refuse(missing: Sequence[str], model: str, results_dir: str | Path, command: str) -> None:
    """Raise the one line that names what is missing and what measures it."""
    some = "; ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
    raise WidthPruneError(
        f"{results_dir} lacks results of {public_name(model)}, which this notebook may not measure: {some}. "
        f"To measure them: {command} (in the book: make book MEASURE=1; in a notebook: measure = True)"
    )


def command_line(model: str, tasks: str | Sequence[str], *, chat_template: bool = False, **asked) -> str:
    """The `widthprune evaluate` that measures what `evaluate` of these arguments does."""
    words = ["widthprune", "evaluate", public_name(model), "--tasks", *task_names(tasks)]
    for name in ("pruning_pcts", "expansion_ratios", "criteria", "neuron_seeds"):
        if values := asked.get(name):
            words += [f"--{name.replace('_', '-')}", *(v if isinstance(v, str) else f"{v:g}" for v in values)]
    for name in ("limit", "seed"):
        if asked.get(name):
            words += [f"--{name}", str(asked[name])]
    if asked.get("device", "cpu") != "cpu":
        words += ["--device", asked["device"]]
    return shlex.join(words + ["--chat-template"] * chat_template)


def _of(rows: pd.DataFrame, point: Point) -> pd.Series:
    """Which rows are of a point. Rows of a criterion that is drawn all name their draw."""
    same = (rows["criterion"] == point.criterion) & (rows["intermediate_size"] == point.intermediate_size)
    if point.criterion != "none" and find_criterion(point.criterion).seeded:
        same &= rows["neuron_seed"].eq(point.neuron_seed).fillna(False).astype(bool)
    return same


def _in_words(task: str, point: Point) -> str:
    draw = "" if point.neuron_seed is None else f" (draw {point.neuron_seed})"
    pruned = "unpruned" if point.criterion == "none" else f"{point.criterion}{draw} at {point.pruning_pct:g}%"
    return f"{TASKS[task].label}, {pruned}"
