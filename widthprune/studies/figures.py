"""Figures of the studies: from a tidy table to Axes. Lines are means over seeds, bands reach over all of them."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..report.drawn import keep_rows
from ..report.figures import MARKERS, PALETTE
from ..report.line_labels import label_lines
from .comparing import at_equal_damage

GRID = np.linspace(0, 0.5, 11)  # rises of the loss on prose that are drawn, in nats per token


def plot_at_damage(
    table: pd.DataFrame,
    measure: str,
    criteria: Sequence[str],
    *,
    label: str = "",
    name: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A measure over the damage done to prose, one line a criterion.

    Parameters
    ----------
    table : DataFrame
        Rows of one kind and stage, of any number of seeds.
    measure : str
    criteria : sequence of str
        In the order of their colours.
    label : str
        The measure as the axis names it; default its name.
    name : str
        What the line is called; default the criterion. Such lines are told apart by colour.
    ax : Axes, optional
    """
    ax = _axes(ax)
    found = at_equal_damage(table[table["criterion"].isin(["none", *criteria])], measure, GRID)
    before, kind = len(ax.lines), ", ".join(sorted(set(found["kind"])))
    for i, criterion in enumerate(criteria, before):
        own = found[found["criterion"] == criterion].groupby("level")["value"].agg(["mean", "min", "max"])
        _line(ax, own, i, name or criterion, {"kind": kind, "measure": measure, "criterion": criterion})
    ax.set(xlabel="rise of the loss on prose, nats per token", ylabel=label or measure)
    label_lines(ax)
    return ax


def plot_shares(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """The share of tuning's squared change in the neurons that PPM removes, and what random sets hold."""
    ax = _axes(ax)
    for i, (kind, rows) in enumerate(table.groupby("kind")):
        own = rows.groupby("pruning_pct")["share"].agg(["mean", "min", "max"])
        _line(ax, own, i, kind, {"kind": kind})
    lots = table.groupby("pruning_pct")[["random", "random_sd"]].mean()
    keep_rows(ax, lots, kind="random sets")
    spread = 2 * lots["random_sd"]
    ax.plot(lots.index, lots["random"], color="0.4", linestyle=":", label="random sets")
    ax.fill_between(lots.index, lots["random"] - spread, lots["random"] + spread, color="0.4", alpha=0.2)
    ax.set(xlabel="neurons removed, %", ylabel="share of the squared change")
    label_lines(ax)
    return ax


def plot_put_back(
    table: pd.DataFrame, measure: str, into: Sequence[str] = ("removed", "random"), *, ax: Axes | None = None
) -> Axes:
    """A measure where tuning's change was put back into some neurons; grey lines where it was into none and into all.

    ``into`` names the neurons: "removed" by PPM, as many at "random", those "kept", or all that are "not random".
    """
    ax = _axes(ax)
    rows = table[table["measure"] == measure]
    for i, name in enumerate(into):
        own = rows[rows["put_back"] == name].groupby("pruning_pct")["value"].agg(["mean", "min", "max"])
        _line(ax, own, i, f"into {name}", {"measure": measure, "put_back": name})
    for name, style in {"everything": "-", "nothing": "--", "base": ":"}.items():
        value = rows.loc[rows["put_back"] == name, "value"].mean()
        ax.axhline(value, color="0.5", linestyle=style, label=name)
        keep_rows(ax, pd.DataFrame({"measure": [measure], "put_back": name, "mean": value}))
    ax.set(xlabel="neurons removed, %", ylabel=measure)
    label_lines(ax)
    return ax


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def _line(ax: Axes, own: pd.DataFrame, i: int, label: str, same: dict) -> None:
    ax.plot(own.index, own["mean"], color=PALETTE[i], marker=MARKERS[i], markersize=4, label=label)
    ax.fill_between(own.index, own["min"], own["max"], color=PALETTE[i], alpha=0.15)
    keep_rows(ax, own, **same)
