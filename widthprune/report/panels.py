"""Which benchmarks share a panel, where panels stand, as wide as the text of the book, and their ticks."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .line_labels import MOST
from .tasks import TASKS

# Points that a character of a tick's name takes, and the room beside the name.
CHARACTER, BESIDE = 4.9, 2
SIDES = {"fragile": "Fragile: knowledge", "robust": "Robust: behaviour"}


def panels(rows: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Titles and benchmarks of the dichotomy's panels: a side of it each, or two where it has more than can be named."""
    there, found = set(rows["task"]), []
    for side, title in SIDES.items():
        names = [name for name in TASKS if name in there and TASKS[name].side == side]
        for i, part in enumerate(split_names(names)):
            found.append((title + (", continued" if i else ""), part))
    return found


def split_names(names: Sequence[str], beside: int = 0) -> list[list[str]]:
    """Names of lines, in as few panels of like size as can name them; one panel where there is none.

    ``beside`` is how many further lines each panel names.
    """
    return [part.tolist() for part in np.array_split(names, max(1, -(-len(names) // (MOST - beside))))]


def panel_axes(
    count: int, axes=None, *, columns: int = 2, height: float = 3.6, ylabel: str = "", **options
) -> np.ndarray:
    """Axes for so many panels, two in a row or as many as ``columns``, as wide as the text of the book; or those given.

    ``ylabel`` is what all of them show, said once for the whole figure: for panels too low to say it each. Of axes
    that the caller gave the label stands beside the first, since their figure may hold more.
    """
    if axes is not None:
        axes = np.atleast_1d(axes).ravel()
        if ylabel:
            axes[0].set_ylabel(ylabel)
        return axes
    rows = -(-count // columns)
    shape = dict(figsize=(9, height * rows), squeeze=False, layout="constrained")
    figure, grid = plt.subplots(rows, columns, **shape, **options)
    for ax in grid.flat[count:]:
        figure.delaxes(ax)
    if ylabel:
        figure.supylabel(ylabel, fontsize="medium")
    return grid.flat[:count]


def ratio_ticks(ax: Axes, rows: pd.DataFrame) -> None:
    """Ticks at the pruned percentages, which are named as far as there is room.

    Where one model is drawn, its expansion ratios stand below.
    """
    pcts = sorted(rows["pruning_pct"].unique())
    ratios = rows.groupby("pruning_pct")["expansion_ratio"].agg(["min", "max"])
    one = (ratios["max"] - ratios["min"] < 0.005).all() and ratios["min"].notna().all()
    panel = _panel_width(ax)
    places = {pct: panel * (pct - pcts[0]) / max(pcts[-1] - pcts[0], 1) for pct in pcts}
    named = _with_room(places, {pct: f"{pct:g}" for pct in pcts})
    below = {pct: f"{ratios['min'][pct]:.2f}" for pct in named} if one else {}
    with_ratio = _with_room(places, below)
    labels = [
        "" if pct not in named else f"{pct:g}" + (f"\n{below[pct]}" if pct in with_ratio else "")
        for pct in pcts
    ]
    ax.set_xticks(pcts, labels, fontsize="small")
    more = ";\nexpansion ratio below" if panel < 110 else "; expansion ratio below"
    ax.set_xlabel("neurons pruned, %" + (more if one else ""))


def _with_room(places: dict[float, float], names: dict[float, str]) -> set[float]:
    """The percentages whose names do not touch: the first one, then whole tens, then what fits between them."""
    half = {pct: (CHARACTER * len(name) + BESIDE) / 2 for pct, name in names.items()}
    chosen: set[float] = set()
    for pct in sorted(names, key=lambda pct: (pct != min(names), pct % 10 != 0, pct)):
        if all(abs(places[pct] - places[other]) >= half[pct] + half[other] for other in chosen):
            chosen.add(pct)
    return chosen


def _panel_width(ax: Axes) -> float:
    """About how wide a panel will be, in points, before the layout is made: without its numbers and its lines' names."""
    spec = ax.get_subplotspec()
    columns = spec.get_gridspec().ncols if spec else 1
    longest = max(map(len, ax.get_legend_handles_labels()[1]), default=0)
    return ax.figure.get_figwidth() * 72 / columns - 60 - 4.7 * longest
