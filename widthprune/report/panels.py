"""Which benchmarks share a panel, and where panels stand: as wide as the text of the book."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from .line_labels import MOST
from .tasks import TASKS

SIDES = {"fragile": "Fragile: knowledge", "robust": "Robust: behaviour"}


def panels(rows: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Titles and benchmarks of the dichotomy's panels: a side of it each, or two where it has more than can be named."""
    there, found = set(rows["task"]), []
    for side, title in SIDES.items():
        names = [name for name in TASKS if name in there and TASKS[name].side == side]
        for i, part in enumerate(split_names(names)):
            found.append((title + (", continued" if i else ""), part))
    return found


def split_names(names: Sequence[str]) -> list[list[str]]:
    """Names of lines, in as few panels of like size as can name them; one panel where there is none."""
    return [part.tolist() for part in np.array_split(names, max(1, -(-len(names) // MOST)))]


def panel_axes(
    count: int, *, columns: int = 2, height: float = 3.6, ylabel: str = "", **options
) -> np.ndarray:
    """Axes for so many panels, two in a row or as many as ``columns``, as wide as the text of the book.

    ``ylabel`` is what all of them show, said once for the whole figure: for panels too low to say it each.
    """
    rows = -(-count // columns)
    shape = dict(figsize=(9, height * rows), squeeze=False, layout="constrained")
    figure, grid = plt.subplots(rows, columns, **shape, **options)
    for ax in grid.flat[count:]:
        figure.delaxes(ax)
    if ylabel:
        figure.supylabel(ylabel, fontsize="medium")
    return grid.flat[:count]


def given_axes(axes, ylabel: str) -> np.ndarray:
    """Axes that the caller gave: the label stands beside the first of them, since their figure may hold more."""
    axes = np.atleast_1d(axes).ravel()
    axes[0].set_ylabel(ylabel)
    return axes
