"""Statistics on results tables: changes from the unpruned model, and correlations between benchmarks.

SciPy computes; this module chooses the columns, and never gives a coefficient without its n, its
interval, and what one point more or less would change: seven ratios are few.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ..errors import WidthPruneError
from .results import SAME_KIND
from .tasks import TASKS, headline


@dataclass(frozen=True)
class Correlation:
    """Pearson's r with what is needed to judge it."""

    r: float
    p: float  # two-sided, H0: no correlation
    n: int
    low: float  # 95% interval by Fisher's transformation; NaN for n = 3
    high: float
    loo_low: float  # range of r when each point is left out in turn; NaN for n = 3
    loo_high: float

    def __str__(self):
        return (
            f"r = {self.r:.3f}, p = {self.p:.3f}, n = {self.n}, 95% interval [{self.low:.2f}, {self.high:.2f}], "
            f"leaving one out [{self.loo_low:.2f}, {self.loo_high:.2f}]"
        )


def correlate(x, y) -> Correlation:
    """Pearson correlation of two series of one value per ratio.

    Parameters
    ----------
    x, y : array-like, shape (n,)

    Raises
    ------
    WidthPruneError
        If the lengths differ, n < 3, a value is not finite, or a series is constant.

    Examples
    --------
    >>> print(correlate([1, 2, 3, 4], [1, 3, 2, 4]))
    r = 0.800, p = 0.200, n = 4, 95% interval [-0.70, 1.00], leaving one out [0.50, 0.93]
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 3:
        raise WidthPruneError(
            f"a correlation needs two series of at least 3 values, got {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise WidthPruneError(
            "a correlation needs finite values, got NaN or infinity: leave those ratios out"
        )
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        raise WidthPruneError("a correlation needs two series that vary, got a constant one")
    result = stats.pearsonr(x, y)
    low = high = loo_low = loo_high = np.nan
    if len(x) > 3:
        low, high = result.confidence_interval()
        loo = [
            np.corrcoef(np.delete(x, i), np.delete(y, i))[0, 1]
            for i in range(len(x))
            if np.ptp(np.delete(x, i)) > 0 and np.ptp(np.delete(y, i)) > 0
        ]
        loo_low, loo_high = min(loo), max(loo)
    return Correlation(result.statistic, result.pvalue, len(x), low, high, loo_low, loo_high)


def values(table: pd.DataFrame, task: str, metric: str | None = None, *, column: str = "value") -> pd.Series:
    """One benchmark of one sweep: its values, or another column's, by ``pruning_pct``, ascending.

    Raises
    ------
    WidthPruneError
        If the table has no such rows, or several for one ratio.
    """
    metric = metric or TASKS[task].metric
    rows = table[(table["task"] == task) & (table["metric"] == metric)]
    if rows.empty:
        raise WidthPruneError(f"the table has no {metric} of {task}: evaluate it first")
    series = rows.set_index("pruning_pct")[column].sort_index()
    if not series.index.is_unique:
        raise WidthPruneError(
            f"{task} has several values for one ratio: select one model, criterion, limit and seed first"
        )
    return series


def correlate_tasks(table: pd.DataFrame, knowledge: str, behaviour: str) -> Correlation:
    """Correlation of two benchmarks over the ratios of one sweep that have both."""
    both = pd.concat([values(table, knowledge), values(table, behaviour)], axis=1, join="inner")
    return correlate(both.iloc[:, 0], both.iloc[:, 1])


def correlation_or_reason(table: pd.DataFrame, knowledge: str, behaviour: str) -> Correlation | str:
    """`correlate_tasks`, or in one line why the sweep has no correlation (two widths, a constant score)."""
    try:
        return correlate_tasks(table, knowledge, behaviour)
    except WidthPruneError as error:
        return str(error)


class Difference(NamedTuple):
    """How far apart two numbers are, and the standard error of that; numbers or arrays."""

    change: float
    stderr: float

    @property
    def z(self):
        """The change in standard errors; NaN where the error is not known or nothing."""
        stderr = np.where(np.greater(self.stderr, 0), self.stderr, np.nan)
        return np.asarray(self.change, float) / stderr


def difference(a, b, *, log=False, paired=np.nan) -> Difference:
    """b less a, with both errors counted: the one arithmetic of every comparison in this package.

    Parameters
    ----------
    a, b : pairs (value, standard error)
        Numbers or arrays of one shape.
    log : bool or array of bool
        Compare logarithms, as perplexities are: they change by orders of magnitude, and a relative error is
        what their logarithm has.
    paired : number or array
        The standard error of the mean difference item by item, where both saw the same items and the answers
        were kept; else NaN. It takes the place of the two errors, which are too wide for shared items.
    """
    (x, dx), (y, dy) = ([np.asarray(part, float) for part in pair] for pair in (a, b))
    log = np.asarray(log, bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        dx, dy = np.where(log, dx / x, dx), np.where(log, dy / y, dy)
        change = np.where(log, np.log(y) - np.log(x), y - x)
    paired = np.asarray(paired, float)
    stderr = np.where(np.isnan(paired), np.hypot(dx, dy), paired)
    return Difference(change, stderr) if change.ndim else Difference(float(change), float(stderr))


def paired_stderr(change, flip_rate, n):
    """Standard error of a change in accuracy over the same n items, of which the share ``flip_rate`` flipped.

    An item's difference is 1, 0 or -1, so the mean of its square is the share that flipped.
    """
    return np.sqrt(np.maximum(flip_rate - np.square(change), 0) / n)


def over_draws(values, errors, *, log: bool = False) -> tuple[float, float]:
    """Mean of draws that saw the same items, with its standard error.

    Draws of the same items share these items' error, which does not average out; that of the draws does. With ``log``
    the mean is that of logarithms: draws of a perplexity differ by factors.

    >>> [round(number, 3) for number in over_draws([0.5, 0.7], [0.03, 0.03])]
    [0.6, 0.104]
    >>> round(over_draws([10.0, 1000.0], [0.0, 0.0], log=True)[0], 6)
    100.0
    """
    x, errors = np.asarray(values, float), np.asarray(errors, float)
    if len(x) == 1:
        return float(x[0]), float(errors[0])
    if log:
        x, errors = np.log(x), errors / x
    spread = np.hypot(np.sqrt(np.mean(errors**2)), x.std(ddof=1) / np.sqrt(len(x)))
    value = float(np.exp(x.mean()) if log else x.mean())
    return value, float(spread * value if log else spread)


def relative_difference(a, b) -> Difference:
    """b over a, less one, with both errors counted: `difference` between b and the share of a that it is.

    Parameters and result are those of `difference`; a share of a has that share of a's error.
    """
    (x, dx), (y, dy) = ([np.asarray(part, float) for part in pair] for pair in (a, b))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = y / x
        change, stderr = share - 1, difference((y, share * dx), (y, dy)).stderr / np.abs(x)
    return Difference(change, stderr) if change.ndim else Difference(float(change), float(stderr))


def relative_change(table: pd.DataFrame) -> pd.DataFrame:
    """The table with ``change_pct`` and ``change_se``: each value against the unpruned model's.

    ``change_pct`` is 100 (value / baseline - 1), so a perplexity that doubles has changed by +100.
    ``change_se`` is its standard error from the two values' own, taken as independent (which
    overstates it where both saw the same items); empty where either is unknown. Both are empty where
    the unpruned model scored nothing: there is no change of zero in %.

    Raises
    ------
    WidthPruneError
        If a model and task have no number at ``pruning_pct`` 0.
    """
    # Table and baseline share these, so the baselines of two limits or suites are never mixed.
    keys = ["model", "task", "metric", "source", *SAME_KIND]
    baseline = table[table["pruning_pct"] == 0][[*keys, "value", "stderr"]]
    merged = table.merge(baseline, how="left", on=keys, suffixes=("", "_0"))
    if (without := merged["value_0"].isna()).any():
        row = merged[without].iloc[0]
        raise WidthPruneError(
            f"{row['model']}, {row['task']} {row['metric']}: no value at 0% to compare with"
        )
    base = merged["value_0"].where(merged["value_0"] > 0)
    found = relative_difference((base, merged["stderr_0"]), (merged["value"], merged["stderr"]))
    merged["change_pct"], merged["change_se"] = 100 * found.change, 100 * found.stderr
    merged.loc[(merged["pruning_pct"] == 0) & base.notna(), "change_se"] = 0.0
    return merged.drop(columns=["value_0", "stderr_0"])


def movements(table: pd.DataFrame, floors: Mapping[str, float]) -> pd.DataFrame:
    """What pruning did to each headline score, in standard errors.

    Parameters
    ----------
    table : DataFrame
        Sweeps of one criterion, 0% included; any number of models and benchmarks. Where it holds ``flip_rate``,
        errors are paired.
    floors : mapping of task to value
        Scores of a responder that knows nothing.

    Returns
    -------
    DataFrame
        The pruned models' rows with ``z``, the `difference` from the unpruned score over its standard error,
        positive where the model got better; and ``above_floor``, whether the unpruned score is better than
        the floor by more than two standard errors, so that there is something to lose. Both are missing where
        an error is not known.
    """
    rows = over_floors(table, floors)
    over = rows.pop("over_floor")
    rows["above_floor"] = (over > 2).astype("boolean").where(over.notna())
    before = rows.loc[rows["pruning_pct"] == 0, ["model", "task", "value", "stderr", "above_floor"]]
    found = rows[rows["pruning_pct"] > 0].drop(columns="above_floor")
    found = found.merge(before, on=["model", "task"], suffixes=("", "_0"), validate="many_to_one")
    flips = table[table["metric"] == "flip_rate"].set_index(["model", "task", "pruning_pct"])["value"]
    flips = flips[~flips.index.duplicated()].reindex(pd.MultiIndex.from_frame(found[flips.index.names]))
    paired = paired_stderr(found["value"] - found["value_0"], flips.to_numpy(), found["n"].astype(float))
    pairs = ((found[f"value{end}"], found[f"stderr{end}"]) for end in ("_0", ""))
    found["z"] = _better(found["task"], difference(*pairs, log=_is_log(found["task"]), paired=paired))
    return found.drop(columns=["value_0", "stderr_0"])


def over_floors(table: pd.DataFrame, floors: Mapping[str, float]) -> pd.DataFrame:
    """Headline rows with ``over_floor``: by how many of its standard errors a score is better than its floor.

    Missing where a floor or an error is not known. Parameters as of `movements`.
    """
    rows = headline(table)
    floor = (rows["task"].map(floors).astype(float), 0.0)
    found = difference(floor, (rows["value"], rows["stderr"]), log=_is_log(rows["task"]))
    return rows.assign(over_floor=_better(rows["task"], found))


def _is_log(tasks: pd.Series) -> np.ndarray:
    return np.array([not TASKS[task].higher_is_better for task in tasks], bool)


def _better(tasks: pd.Series, found: Difference) -> np.ndarray:
    """A difference in standard errors, positive for better."""
    return np.where(_is_log(tasks), -1.0, 1.0) * found.z


def missing_from_grid(table: pd.DataFrame, pruning_pcts, tasks) -> list[str]:
    """What a complete sweep would have and this table has not, as ``task at pct%``; empty when whole."""
    have = set(zip(table["task"], table["pruning_pct"], strict=True))
    return [f"{task} at {pct:g}%" for task in tasks for pct in pruning_pcts if (task, pct) not in have]
