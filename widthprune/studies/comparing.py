"""Comparing: how criteria compare where they did equal damage to prose, and what several seeds say together. No torch."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ..errors import WidthPruneError
from ..report.tables import SIGNED, with_error

# Rises of the loss on held-out prose, in nats per token, at which criteria are compared.
LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4)


def at_equal_damage(table: pd.DataFrame, measure: str, levels: Sequence[float] = LEVELS) -> pd.DataFrame:
    """A measure where the loss on prose has risen by so much, interpolated between widths and never beyond them.

    Parameters
    ----------
    table : DataFrame
        Rows of `remove`, of one or several models: ``kind``, ``seed`` and ``stage`` tell them apart.
    measure : str
    levels : sequence of float
        Rises of ``prose``, in nats per token.

    Returns
    -------
    DataFrame
        ``kind``, ``seed``, ``stage``, ``criterion``, ``draw``, ``level``, ``value``; a level that a criterion did not reach,
        or that its first width passes by a factor, is interpolated from the unpruned model or missing.
    """
    model = ["kind", "seed", "stage"]
    wide = table[table["measure"].isin(["prose", measure])].pivot(
        index=[*model, "criterion", "draw", "pruning_pct"], columns="measure", values="value"
    )
    if wide.empty or measure not in wide:
        raise WidthPruneError(f"the table has no {measure}: remove neurons first")
    whole = wide.xs("none", level="criterion").reset_index(["draw", "pruning_pct"], drop=True)
    rows = []
    for (*key, criterion, draw), own in wide.groupby(level=[*model, "criterion", "draw"]):
        if criterion == "none":
            continue
        before = whole.loc[tuple(key)]
        # Loss may fall a little from one width to the next: damage is the most so far.
        damage = np.maximum.accumulate(np.r_[0, own["prose"] - before["prose"]])
        values = np.interp(levels, damage, np.r_[before[measure], own[measure]], right=np.nan)
        rows += [(*key, criterion, draw, *pair) for pair in zip(levels, values, strict=True)]
    return pd.DataFrame(rows, columns=[*model, "criterion", "draw", "level", "value"])


def advantage(
    table: pd.DataFrame, measure: str, one: str, other: str, levels: Sequence[float] = LEVELS
) -> pd.Series:
    """By how much more of a measure one criterion leaves than another at equal damage, of each model.

    The mean over the levels that both reached, and over draws of neurons.

    Returns
    -------
    Series
        By ``kind``, ``seed`` and ``stage``.
    """
    found = at_equal_damage(table[table["criterion"].isin(["none", one, other])], measure, levels)
    keys = ["kind", "seed", "stage"]
    means = found.groupby([*keys, "level", "criterion"])["value"].mean().unstack()
    if missing := [name for name in (one, other) if name not in means]:
        raise WidthPruneError(f"the table has no {missing[0]}: remove neurons by it first")
    return (means[one] - means[other]).groupby(keys).mean()


def over_seeds(values: Iterable[float]) -> dict[str, float]:
    """Mean of one number for each seed, its standard error, and the two-sided p of Student's t against zero."""
    values = np.asarray(list(values), float)
    if len(values) < 2 or not np.isfinite(values).all():
        raise WidthPruneError(
            f"an error needs a finite number of each of at least two seeds, got {values.tolist()}: add seeds"
        )
    found = stats.ttest_1samp(values, 0.0)
    return dict(mean=values.mean(), stderr=stats.sem(values), p=float(found.pvalue), seeds=len(values))


def contrasts(table: pd.DataFrame, measures: Sequence[str], pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """`advantage` of every pair of criteria in every measure and kind of model, over seeds.

    Returns
    -------
    DataFrame
        ``kind``, ``measure``, ``one``, ``other``; ``difference``, ``stderr``, ``p`` and ``seeds`` of `over_seeds`, and
        ``p_holm``, corrected over all rows of the table. A pair that a kind lacks has no row; seeds in which the two did no equal
        damage do not count, and of fewer than two there is no error.
    """
    rows = []
    for kind, own in table.groupby("kind"):
        for measure in measures:
            for one, other in pairs:
                if {one, other} <= set(own["criterion"]):
                    values = advantage(own, measure, one, other).dropna()
                    rows.append((kind, measure, one, other, *_summary(values)))
    columns = ["kind", "measure", "one", "other", "difference", "stderr", "p", "seeds"]
    found = pd.DataFrame(rows, columns=columns)
    return found.assign(p_holm=holm(found["p"]))


def holm(p: pd.Series) -> pd.Series:
    """p values corrected by Holm over all of them that there are; NaN where there is none."""
    found, told = pd.Series(np.nan, p.index), p.notna()
    if told.any():
        found[told] = multipletests(p[told].astype(float), method="holm")[1]
    return found


def _summary(values: pd.Series) -> tuple[float, float, float, int]:
    if len(values) < 2:
        return float(values.mean()) if len(values) else np.nan, np.nan, np.nan, len(values)
    found = over_seeds(values)
    return found["mean"], found["stderr"], found["p"], found["seeds"]


def unpruned(table: pd.DataFrame) -> pd.DataFrame:
    """What models know before anything is removed: the mean over seeds ± their standard deviation, as texts.

    Parameters
    ----------
    table : DataFrame
        A study's rows, of models of one stage.

    Returns
    -------
    DataFrame
        A row a measure, a column a kind; of one seed no deviation, and of what a kind lacks an empty text.

    Raises
    ------
    WidthPruneError
        If there are models of several stages.
    """
    rows = table[table["criterion"] == "none"]
    if len(stages := sorted(set(rows["stage"]))) > 1:
        raise WidthPruneError(f"what models know is told of one stage, got {', '.join(stages)}: select one")
    found = rows.groupby(["measure", "kind"])["value"].agg(["mean", "std"])
    shown = [with_error(*pair, ".3f") for pair in zip(found["mean"], found["std"], strict=True)]
    return pd.Series(shown, found.index, dtype=object).unstack("kind", fill_value="")


def by_tier(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """One measure of ``attributed``, tier by tier: the mean over seeds ± its standard error, as texts.

    Returns
    -------
    DataFrame
        A row a kind, criterion and percentage, a column a tier; draws of one seed count as their mean.
    """
    rows = table[table["measure"] == measure]
    keys = ["kind", "criterion", "pruning_pct", "set"]
    seeds = rows.groupby([*keys, "seed"])["value"].mean()
    found = seeds.groupby(level=keys).agg(["mean", "sem"])
    shown = [with_error(*pair, SIGNED) for pair in zip(found["mean"], found["sem"], strict=True)]
    text = pd.Series(shown, found.index, dtype=object)
    wide = text.unstack("set", fill_value="")[list(dict.fromkeys(rows["set"]))]
    return wide.rename(index="{:g}%".format, level="pruning_pct").rename_axis(
        index=["kind", "criterion", "neurons"], columns=None
    )
