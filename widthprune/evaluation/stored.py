"""What a chapter shows: results that are stored, and only where it may measure, results that it makes.

Stored results are found by name, width and settings alone: a chapter shows them where no model is, and without torch.
One chapter needs the model in every build, for seconds: `widthprune.audit.controls.different_neurons` reads its weights.
"""

import shlex
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import pandas as pd

from ..commands.options import PERCENTAGE, RATIO, SEED, check_list
from ..criteria import find_criterion
from ..errors import WidthPruneError
from ..report.results import SAME_KIND, one_sweep, stored_results, tidy
from ..report.runs import public_name
from ..report.tasks import TASKS
from .grid import PAPER_PCTS, Point, grid
from .suites import resolve


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
        refuse(missing, model, results_dir, command_line(model, tasks, results_dir=results_dir, **asked))
    return found


def check_measurable(model: str, tasks: str | Sequence[str] = "pocket", *, measure: bool, **asked) -> None:
    """Where a notebook may measure, refuse what `evaluate` of these arguments would, before other work is done.

    Raises
    ------
    WidthPruneError
        As `widthprune.evaluation.evaluate.evaluate`.
    """
    if measure:
        from .evaluate import evaluate

        evaluate(model, tasks, dry_run=True, **asked)


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

    All are of one checkpoint (revision), that which lacks the fewest; of each task's several kinds of runs (data,
    arithmetic), those of the kind that has the most of what is asked, as `one_sweep` chooses it. ``having`` are names
    of metrics: a result counts as there if it has one of these. ``device`` is where `evaluate` would measure.

    Raises
    ------
    WidthPruneError
        If a task is unknown, or an argument out of range.
    """
    tasks = list(resolve(tasks))
    table = stored_results(results_dir)
    same = table["limit"].isna() if limit is None else table["limit"].eq(limit).fillna(False).astype(bool)
    same &= (table["model"] == public_name(model)) & table["task"].isin(tasks) & (table["seed"] == seed)
    rows = table[same & (table["chat_template"] == chat_template)]
    axes = dict(
        pruning_pcts=check_list("pruning_pcts", pruning_pcts, PERCENTAGE),
        expansion_ratios=check_list("expansion_ratios", expansion_ratios, RATIO),
        criteria=check_list("criteria", criteria),
        neuron_seeds=list(dict.fromkeys(check_list("neuron_seeds", neuron_seeds, SEED))) or [seed],
    )
    checkpoints = [of_one for _, of_one in rows.groupby("revision", dropna=False)]
    # Before the smaller of two that lack as much.
    checkpoints = sorted((one for one in checkpoints if one["criterion"].eq("none").any()), key=len)[::-1]
    if not checkpoints:
        return rows[:0], [f"{task} of the unpruned model" for task in tasks]
    return min((_of_one(one, tasks, having, axes) for one in checkpoints), key=lambda found: len(found[1]))


def _of_one(rows: pd.DataFrame, tasks: list[str], having: Collection[str], axes: dict) -> tuple:
    """`find_stored` among the rows of one checkpoint, whose own sizes say what a percentage leaves."""
    whole = rows[rows["criterion"] == "none"]
    size, ratio = whole[["intermediate_size", "expansion_ratio"]].iloc[0]
    points = grid(int(size), round(size / ratio), **axes)
    asked = pd.concat([rows[_of(rows, point)] for point in points], ignore_index=True)
    counting = asked[asked["metric"].isin(having)] if having else asked
    kind = ["task", *SAME_KIND]
    found = asked.merge(one_sweep(counting)[kind].drop_duplicates(), on=kind)
    counted = found[found["metric"].isin(having)] if having else found
    missing = [
        _in_words(task, point)
        for point in points
        for task in tasks
        if not (counted["task"].eq(task) & _of(counted, point)).any()
    ]
    return tidy(found), missing


def refuse(missing: Sequence[str], model: str, results_dir: str | Path, command: str) -> None:
    """Raise the one line that names what is missing and what measures it."""
    some = "; ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
    raise WidthPruneError(
        f"{results_dir} lacks results of {public_name(model)}, which this notebook may not measure: {some}. "
        f"To measure them: {command} (in the book: make book MEASURE=1; in a notebook: measure = True)"
    )


def command_line(model: str, tasks: str | Sequence[str], *, chat_template: bool = False, **asked) -> str:
    """The `widthprune evaluate` that measures what `evaluate` of these arguments does."""
    words = ["widthprune", "evaluate", str(model), "--tasks", *resolve(tasks)]
    for name in ("pruning_pcts", "expansion_ratios", "criteria", "neuron_seeds"):
        values = list(map(str, asked.get(name, ())))
        # No percentages are other than none said, which are the paper's.
        if values or (name == "pruning_pcts" and name in asked):
            words += [f"--{name.replace('_', '-')}", *values]
    defaults = dict(limit=None, seed=0, device="cpu", results_dir="results")
    for name, default in defaults.items():
        if (value := asked.get(name, default)) != default:
            words += [f"--{name.replace('_', '-')}", str(value)]
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
