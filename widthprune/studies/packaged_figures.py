"""Figures of the studies of packaged models: from a tidy table to Axes. Bars are one standard error."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..report.drawn import keep_rows
from ..report.figures import MARKERS, PALETTE
from ..report.tasks import TASKS, headline
from .pairs import MYTHS, SETS

CRITERIA = ("PPM", "PPM-REVERSED", "ATTRIBUTED", "RANDOM")


def plot_odds(table: pd.DataFrame, sets: Sequence[str] = tuple(SETS), *, axes=None) -> np.ndarray:
    """How the log-odds of myth against truth move as neurons go, a panel a set, a line a criterion.

    Parameters
    ----------
    table : DataFrame
        The study's rows of one model.
    sets : sequence of str
    axes : as many Axes as sets, optional
    """
    if axes is None:
        _, axes = plt.subplots(
            1, len(sets), figsize=(3 * len(sets), 3.6), sharey=True, layout="constrained", squeeze=False
        )
        axes = axes[0]
    rows = table[table["measure"] == "odds"]
    for ax, name in zip(axes, sets, strict=True):
        ax.axhline(0, color="0.6", linewidth=0.8)
        for i, criterion in enumerate(CRITERIA):
            own = rows[(rows["set"] == name) & (rows["criterion"] == criterion)]
            own = own.groupby("pruning_pct")[["value", "stderr"]].mean()
            keep_rows(ax, own, set=name, criterion=criterion)
            ax.errorbar(
                own.index,
                own["value"],
                own["stderr"],
                color=PALETTE[i],
                marker=MARKERS[i],
                markersize=4,
                label=criterion,
            )
        ax.set(
            title=f"{name}: {'myths' if name in MYTHS else 'plain falsehoods'}", xlabel="neurons removed, %"
        )
    axes[0].set_ylabel("change of the log-odds of\nmyth against truth, a token")
    axes[0].legend(fontsize="small", frameon=False)
    return np.asarray(axes)


def plot_shares_of_odds(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """The share of the log-odds in the neurons of the lowest PPM, less the share of neurons: 0 is no preference."""
    if ax is None:
        ax = plt.subplots(figsize=(6, 3.6), layout="constrained")[1]
    rows = table[table["measure"] == "share"]
    ax.axhline(0, color="0.6", linewidth=0.8)
    for i, name in enumerate(name for name in SETS if name in set(rows["set"])):
        own = rows[rows["set"] == name].sort_values("pruning_pct")
        # Side by side, so that bars do not hide one another.
        own = own.assign(drawn_at=own["pruning_pct"] + 0.6 * (i - 2))
        keep_rows(ax, own)
        ax.errorbar(
            own["drawn_at"],
            own["value"],
            own["stderr"],
            color=PALETTE[i],
            marker=MARKERS[i],
            linestyle="-" if name in MYTHS else "--",
            markersize=4,
            label=f"{name} ({'myths' if name in MYTHS else 'plain falsehoods'})",
        )
    ax.set(xlabel="neurons of the lowest PPM, %", ylabel="share of the log-odds,\nless their number")
    ax.legend(fontsize="small", frameon=False)
    return ax


def table_of(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """One measure as a table: a row a criterion and percentage, a column a set, means over draws with one standard error."""
    own = rows[rows["measure"] == measure]
    means = own.groupby(["criterion", "pruning_pct", "set"])[["value", "stderr"]].mean()
    text = means["value"].map("{:+.3f}".format) + " ± " + means["stderr"].map("{:.3f}".format)
    wide = text.unstack("set")
    return wide[[name for name in SETS if name in wide]]


def sizes_and_scores(
    measured: pd.DataFrame, sliced: pd.DataFrame, damage: str = "pocket_prose"
) -> pd.DataFrame:
    """Width pruning under every criterion beside SliceGPT at the same size, each with the damage that it does.

    Parameters
    ----------
    measured : DataFrame
        Results of one model, the unpruned one included; of RANDOM the mean over draws is taken.
    sliced : DataFrame
        From `widthprune.studies.packaged.slicegpt`; sizes are those without embeddings.
    damage : str
        The perplexity that says how damaged a model is.

    Returns
    -------
    DataFrame
        ``criterion`` ("SLICEGPT" among them), ``pruning_pct`` whose size it has, ``task``, ``value``, ``stderr``,
        ``damage``.
    """
    rows = headline(measured)[["criterion", "pruning_pct", "task", "value", "stderr"]]
    other = sliced[(sliced["counted"] == "without embeddings") & (sliced["metric"] != "width")]
    keeps = [
        TASKS[task].metric == metric for task, metric in zip(other["task"], other["metric"], strict=True)
    ]
    other = other[keeps].assign(criterion="SLICEGPT")[list(rows)]
    rows = pd.concat([rows, other]).astype({"criterion": "object", "task": "object"})
    rows = rows.groupby(["criterion", "pruning_pct", "task"], as_index=False)[["value", "stderr"]].mean()
    done = rows[rows["task"] == damage].set_index(["criterion", "pruning_pct"])["value"].rename("damage")
    return rows[rows["task"] != damage].join(done, on=["criterion", "pruning_pct"], how="inner")


def plot_scores_at_damage(
    table: pd.DataFrame, task: str, *, floor: float | None = None, ax: Axes | None = None
) -> Axes:
    """A benchmark over the damage done to prose, a line a criterion from the unpruned model on.

    Parameters
    ----------
    table : DataFrame
        From `sizes_and_scores`.
    task : str
    floor : float, optional
        What a responder that knows nothing scores.
    ax : Axes, optional
    """
    if ax is None:
        ax = plt.subplots(figsize=(7, 4.5), layout="constrained")[1]
    rows = table[table["task"] == task]
    whole = rows[rows["criterion"] == "none"]
    keep_rows(ax, rows)
    names = [name for name in dict.fromkeys(rows["criterion"]) if name != "none"]
    for i, name in enumerate(names):
        own = pd.concat([whole, rows[rows["criterion"] == name].sort_values("pruning_pct")])
        ax.errorbar(
            own["damage"],
            own["value"],
            own["stderr"],
            color=PALETTE[i % len(PALETTE)],
            marker=MARKERS[i % len(MARKERS)],
            linestyle="-" if name != "SLICEGPT" else "--",
            markersize=4,
            label=name,
        )
    if floor is not None:
        ax.axhline(floor, color="0.5", linestyle=":", label="knows nothing")
        keep_rows(ax, pd.DataFrame({"task": [task], "criterion": "knows nothing", "value": floor}))
    ax.set(xscale="log", xlabel="perplexity of the prose", ylabel=TASKS[task].label)
    ax.legend(fontsize="x-small", frameon=False, ncols=2)
    return ax
