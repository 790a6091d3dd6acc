"""Do two benchmarks move together? Every pair, with what a sceptical reader asks of seven points.

Both benchmarks follow one dose, the ratio, so they correlate with each other even if neither acts on the
other; a benchmark at its floor adds points that cannot move; and many pairs were looked at. Hence, beside r,
what the dose alone would give, a partial correlation, the correlation of the steps, a correlation above the
floor, and Holm's correction.

Holm's family is every pair of a knowledge and a behaviour benchmark of every model in the paper's tables. Any of them
could have been quoted, and the two that were quoted were chosen when all of them were known. Pairs of two benchmarks of one
side could not have been quoted for a paradox between the sides; to count them, too, would only raise p. SciPy computes.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from ..errors import WidthPruneError
from ..report.stats import correlate
from ..report.tasks import TASKS, headline
from .effects import holm

ALL_ORDERS = 5040  # 7!, the orders of seven ratios


def associate(x, y, dose=None, *, resampled: bool = True) -> dict[str, float]:
    """One pair of series, one value per ratio, from every side.

    Parameters
    ----------
    x, y : array-like, shape (n,)
    dose : array-like, shape (n,), optional
        The pruning percentages, for the partial correlation.
    resampled : bool
        Without, ``p_exact``, the bootstrap and the rank correlations are left out, which take most of the time.

    Returns
    -------
    dict
        ``r``, ``p`` and Fisher's interval as in `widthprune.report.stats.correlate`; ``spearman``, ``kendall`` and
        their p as SciPy gives it; ``p_exact``, two-sided over all n! pairings (n <= 7; beyond, 5,040 random ones);
        ``boot_low`` and ``boot_high``, 95% percentile bootstrap over points, of seed 0; ``steps_r`` and ``steps_p``,
        the correlation of the first differences, which a common trend does not make; ``dose_r``, what two series
        that share nothing but the dose would have: the product of their correlations with it; ``partial_r``
        and ``partial_p`` given the dose (n - 3 degrees of freedom). The last five answer one question:
        what is left of r without the dose. So few points leave the partial correlation little to show, so
        the steps stand beside it, and no absence of significance is taken for an explanation.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    found = correlate(x, y)
    row = {"n": found.n, "r": found.r, "p": found.p, "low": found.low, "high": found.high}
    row |= {"loo_low": found.loo_low, "loo_high": found.loo_high}
    if resampled:
        row["spearman"], row["spearman_p"] = stats.spearmanr(x, y)
        row["kendall"], row["kendall_p"] = stats.kendalltau(x, y)
        row["p_exact"] = permutation_p(x, y)
        row["boot_low"], row["boot_high"] = bootstrap_interval(x, y)
    steps = np.diff(x), np.diff(y)
    if len(x) > 3 and min(np.ptp(step) for step in steps) > 1e-12:
        row["steps_r"], row["steps_p"] = stats.pearsonr(*steps)
    if dose is not None:
        row["dose_r"] = stats.pearsonr(x, dose).statistic * stats.pearsonr(y, dose).statistic
        row["partial_r"], row["partial_p"] = partial_correlation(x, y, dose)
    return {name: float(value) for name, value in row.items()}


def permutation_p(x, y) -> float:
    """Two-sided p of Pearson's r over all pairings of the points: exact for n <= 7."""
    if len(np.unique(x)) == 1 or len(np.unique(y)) == 1:
        return float("nan")
    found = stats.permutation_test(
        (np.asarray(x, float),),
        # The sum of products orders the pairings as r does, and is quicker.
        lambda a, axis=-1: np.abs(np.sum((a - np.mean(x)) * (np.asarray(y) - np.mean(y)), axis=axis)),
        permutation_type="pairings",
        alternative="greater",
        n_resamples=ALL_ORDERS,
        vectorized=True,
        rng=0,
    )
    return float(found.pvalue)


def bootstrap_interval(x, y) -> tuple[float, float]:
    """95% percentile bootstrap interval of r over points; draws in which a series is constant are left out."""
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, len(x), size=(5000, len(x)))
    a, b = np.asarray(x, float)[drawn], np.asarray(y, float)[drawn]
    vary = (np.ptp(a, axis=1) > 0) & (np.ptp(b, axis=1) > 0)
    r = stats.pearsonr(a[vary], b[vary], axis=1).statistic
    low, high = np.percentile(r, [2.5, 97.5])
    return float(low), float(high)


def partial_correlation(x, y, dose) -> tuple[float, float]:
    """(r, two-sided p) of x and y given the dose: the correlation of what a line in the dose leaves of each."""
    x, y, dose = (np.asarray(series, float) for series in (x, y, dose))
    left = [series - np.polyval(np.polyfit(dose, series, 1), dose) for series in (x, y)]
    if min(np.ptp(series) for series in left) < 1e-12 or len(x) < 4:
        return float("nan"), float("nan")
    r = stats.pearsonr(*left).statistic
    df = len(x) - 3
    t = r * np.sqrt(df / max(1 - r * r, 1e-300))
    return float(r), float(2 * stats.t.sf(abs(t), df))


def associations(
    table: pd.DataFrame, floors: Mapping[str, float] | None = None, *, resampled: bool = True
) -> pd.DataFrame:
    """`associate` for every pair of a fragile and a robust benchmark, model by model.

    Parameters
    ----------
    table : DataFrame
        Published or measured rows of one criterion; a perplexity enters as its logarithm.
    floors : mapping of task to value, optional
        From `widthprune.audit.floors.headline_floors`. Points at which the knowledge benchmark is not above its
        floor, by two binomial standard errors (``n`` or the official size), are left out for
        ``r_above``, ``p_above`` and ``n_above``: with fewer than four left, they are empty.
    resampled : bool
        As for `associate`.

    Returns
    -------
    DataFrame
        One row a model and pair; ``p_holm`` corrects ``p`` over all pairs of all models in the table.
    """
    rows = []
    for model, of_model in headline(table).groupby("model"):
        scores = of_model.pivot(index="pruning_pct", columns="task", values="value")
        tasks = set(scores)
        for knowledge in sorted(task for task in tasks if TASKS[task].side == "fragile"):
            for behaviour in sorted(task for task in tasks if TASKS[task].side == "robust"):
                both = _pair(scores, knowledge, behaviour)
                if len(both) < 4 or (np.ptp(both, axis=0) == 0).any():
                    continue
                row = {"model": model, "knowledge": knowledge, "behaviour": behaviour}
                row |= associate(both["x"], both["y"], both.index, resampled=resampled)
                if floors is not None and knowledge in floors:
                    row |= _above_floor(both, knowledge, floors[knowledge])
                rows.append(row)
    if not rows:
        raise WidthPruneError("no pair of a fragile and a robust benchmark has four ratios in common")
    found = pd.DataFrame(rows)
    found["p_holm"] = holm(found["p"])
    return found


def _pair(scores, knowledge, behaviour):
    x, y = scores[knowledge], scores[behaviour]
    if not TASKS[knowledge].higher_is_better:
        x = np.log(x)
    return pd.concat({"x": x, "y": y}, axis=1).dropna()


def _above_floor(both, knowledge, floor):
    if TASKS[knowledge].higher_is_better:
        spread = np.sqrt(floor * (1 - floor) / (TASKS[knowledge].items or np.inf))
        above = both[both["x"] > floor + 2 * spread]
    else:
        above = both[both["x"] < np.log(floor)]
    row = {"n_above": len(above), "r_above": np.nan, "p_above": np.nan}
    if len(above) >= 4 and (np.ptp(above, axis=0) > 0).all():
        row["r_above"], row["p_above"] = (float(v) for v in stats.pearsonr(above["x"], above["y"]))
    return row
