"""Floors in figures: named lines behind the others, told apart by style and marker as well as by colour."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .drawn import keep_rows

# task -> name of the floor -> score of a responder that knows nothing, from `widthprune.audit.floors.floor_lines`
Floors = Mapping[str, Mapping[str, float]]
FLOOR_STYLES = {"blind floor": ":", "prompt-reading floor": "-."}


def draw_floors(ax: Axes, floors: Floors | None, task: str, *, upright: bool = False) -> None:
    """A benchmark's floors, as every figure shows them: lines behind the others, each with its name and style.

    Of two, the higher has its name above it and the lower below, so that names of close lines do not meet.
    ``upright`` draws them over the horizontal axis.
    """
    keep_floors(ax, floors, task)
    lines = sorted((floors or {}).get(task, {}).items(), key=lambda line: line[1])
    for place, (name, value) in enumerate(lines):
        below = place < len(lines) - 1
        draw = ax.axvline if upright else ax.axhline
        draw(value, color="0.5", linestyle=FLOOR_STYLES[name], linewidth=1.2, zorder=0)
        near = (dict(xy=(value, 1), xycoords=("data", "axes fraction"), xytext=(-2 if below else 2, -2), rotation=90,
                     ha="right" if below else "left", va="top")
                if upright else
                dict(xy=(1, value), xycoords=("axes fraction", "data"), xytext=(-2, -2 if below else 2),
                     ha="right", va="top" if below else "bottom"))  # fmt: skip
        # Behind the data, which no name may hide.
        ax.annotate(name, textcoords="offset points", fontsize="x-small", color="0.35", zorder=1, **near)


def keep_floors(ax: Axes, floors: Floors | None, task: str) -> None:
    """Keep the floors of a benchmark among the rows of the figure: a responder's name where others have a model."""
    lines = (floors or {}).get(task, {}).items()
    keep_rows(ax, pd.DataFrame(lines, columns=["model", "value"]), task=task, source="floor")


def mark_floor(ax: Axes, value: float, name: str, color, marker: str) -> None:
    """One floor among those of several benchmarks: in its benchmark's colour, ending in its marker."""
    ax.axhline(value, linestyle=FLOOR_STYLES[name], linewidth=1.2, color=color, zorder=0)
    end = dict(marker=marker, markersize=5, fillstyle="none", clip_on=False)
    ax.plot([1], [value], transform=ax.get_yaxis_transform(), color=color, zorder=0, **end)


def floor_legend(figure: Figure, tasks: Sequence[str], floors: Floors | None) -> None:
    """Below the panels, the styles of the floors that their benchmarks have."""
    shown = {name for task in tasks for name in (floors or {}).get(task, {})}
    styles = {name: style for name, style in FLOOR_STYLES.items() if name in shown}
    handles = [
        Line2D([], [], color="0.5", linestyle=style, label=f"{name}, ending in its benchmark's marker")
        for name, style in styles.items()
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize="small", frameon=False)
