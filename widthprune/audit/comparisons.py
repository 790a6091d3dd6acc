"""Comparisons of criteria: at equal damage rather than equal width, and against one another. No torch."""

import contextlib
import itertools
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from ..errors import WidthPruneError
from ..report.results import one_sweep
from ..report.tables import SIGNED, with_error
from ..report.tasks import TASKS
from .evidence import Evidence, NoEvidence
from .evidence_studies import DAMAGE, SLICED


def same_damage(table: pd.DataFrame, task: str) -> pd.DataFrame:
    """A benchmark under every criterion at equal perplexity, where the criteria left different widths.

    Five perplexities, from the unpruned model's to the largest that all criteria reach. Between the ratios that were
    measured, the score is interpolated linearly in the logarithm of the perplexity, never extrapolated.

    Parameters
    ----------
    table : DataFrame
        Measured rows of one model, several criteria, the unpruned model included.
    task : str
        The benchmark to compare, by its headline metric.

    Returns
    -------
    DataFrame
        One row a criterion, draw and perplexity: ``criterion``, ``neuron_seed``, ``perplexity``, ``value``.
    """
    rows = one_sweep(table)
    curves = {}
    whole = _curve(rows[rows["criterion"] == "none"], task)
    if len(whole) != 1:
        raise WidthPruneError(f"comparing {task} at equal damage needs it and {DAMAGE} on one unpruned model")
    pruned = rows[rows["criterion"] != "none"]
    for key, group in pruned.groupby(["criterion", "neuron_seed"], dropna=False):
        curve = pd.concat([whole, _curve(group, task)]).sort_values("damage")
        if len(curve) > 1:
            curves[key] = curve
    if not curves:
        raise WidthPruneError(f"no criterion was measured on both {task} and {DAMAGE}")
    reach = min(curve["damage"].max() for curve in curves.values())
    perplexities = np.geomspace(whole["damage"].iloc[0], reach, 5)
    found = []
    for (criterion, neuron_seed), curve in curves.items():
        value = np.interp(np.log(perplexities), np.log(curve["damage"]), curve["value"])
        found += [
            {"criterion": criterion, "neuron_seed": neuron_seed, "perplexity": p, "value": v}
            for p, v in zip(perplexities, value, strict=True)
        ]
    return pd.DataFrame(found)


def rival_table(
    evidence: Evidence, tasks: Sequence[str], others: Sequence[str], one: str = "PPM"
) -> pd.DataFrame:
    """Criteria against ``one``, over the same items and with both errors, wherever one of the two leaves a working model.

    Returns
    -------
    DataFrame
        ``model``, ``benchmark``, ``criterion``, ``pruned`` (%), and ``z``, by how many standard errors the criterion is
        better than ``one``.
    """
    rows = []
    for model in evidence.models():
        for task, other in itertools.product(tasks, others):
            for pct in sorted([*evidence.widths(model, one), *evidence.broken(model, one)]):
                with contextlib.suppress(NoEvidence):
                    effect = evidence.better(model, task, other, one, pct)
                    rows.append((model, TASKS[task].label, other, pct, effect.z))
    return pd.DataFrame(rows, columns=["model", "benchmark", "criterion", "pruned", "z"])


def apart_table(evidence: Evidence, tasks: Sequence[str]) -> pd.DataFrame:
    """What each criterion, and SliceGPT, leaves beyond PPM where it damaged prose as much, on every model while it works.

    Returns
    -------
    DataFrame
        A row a model, criterion and percentage (its index), a column a benchmark: the difference with its standard error,
        as a text; empty where there is none.
    """
    texts = {}
    sliced = [partial(evidence.apart_sliced, study=study) for study in SLICED]
    for model, task, differences in itertools.product(evidence.models(), tasks, (evidence.apart, *sliced)):
        with contextlib.suppress(NoEvidence):
            for (criterion, pct), effect in differences(model, task).items():
                text = with_error(effect.change, effect.stderr, SIGNED)
                texts.setdefault((model, criterion, f"{pct:g}%"), {})[TASKS[task].label] = text
    table = pd.DataFrame.from_dict(texts, orient="index", columns=[TASKS[task].label for task in tasks])
    table.index = pd.MultiIndex.from_tuples(texts, names=["model", "criterion", "size of"])
    return table.fillna("")


def _curve(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    by = {
        name: rows[(rows["task"] == t) & (rows["metric"] == TASKS[t].metric)].set_index("pruning_pct")[
            "value"
        ]
        for name, t in (("damage", DAMAGE), ("value", task))
    }
    both = pd.concat(by, axis=1, join="inner")
    return both[np.isfinite(both).all(axis=1)]
