"""Figures of where misconceptions sit: from the study's table to Axes. Bars are one standard error over pairs."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..report.figures import MARKERS, PALETTE
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
        ax.errorbar(
            own["pruning_pct"] + 0.6 * (i - 2),
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
