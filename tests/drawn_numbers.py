"""Is every number that a figure shows among the rows that are kept with it?"""

import numpy as np
from matplotlib.collections import PathCollection, PolyCollection, QuadMesh
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.ticker import FixedFormatter, FuncFormatter, NullFormatter

from widthprune.report.drawn import drawn_rows

FITTED = 100  # points of the least-squares line that seaborn draws: no row has them


def missing_numbers(figure):
    """Numbers that are drawn on a figure and stand in none of its rows; names of places on an axis are none."""
    known = drawn_rows(figure).to_numpy().ravel()
    known = np.array([value for value in known if isinstance(value, (int, float, np.number))], dtype=float)
    drawn = np.concatenate([numbers(ax) for ax in figure.axes] or [[]])
    drawn = drawn[np.isfinite(drawn)]
    near = np.isclose(drawn[:, None], known[None, :], rtol=1e-6, atol=1e-12).any(axis=1)
    return drawn[~near]


def numbers(ax):
    """What lines, points, bars, bands and coloured tables of a panel say; places without a number are left out."""
    found, caps = [], set()
    for bars in ax.containers:
        if isinstance(bars, BarContainer):
            across = bars.orientation == "horizontal"
            ends = [
                bar.get_x() + bar.get_width() if across else bar.get_y() + bar.get_height() for bar in bars
            ]
            found.append(np.array(ends))
        elif isinstance(bars, ErrorbarContainer):
            caps |= set(bars.lines[1])  # at a value and its error, which stand in two columns
    for line in set(ax.lines) - caps:
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        if len(x) == FITTED or line.get_transform() != ax.transData:
            continue  # lines across the whole panel mark a place
        found += along(ax, x, y)
    for part in ax.collections:
        if isinstance(part, PathCollection):
            found += along(ax, *np.asarray(part.get_offsets(), float).T)
        elif isinstance(part, PolyCollection) and part.get_paths():
            found += along(ax, *np.concatenate([path.vertices for path in part.get_paths()]).T)
        elif isinstance(part, QuadMesh):
            found.append(np.asarray(part.get_array().compressed(), float))
    return np.concatenate(found or [[]])


def along(ax, x, y):
    """The coordinates of those axes whose ticks are numbers, not names of places."""
    axes = ((ax.xaxis, x), (ax.yaxis, y))
    return [values for axis, values in axes if not named(axis)]


def named(axis):
    # Of ticks that are given with their names matplotlib makes a function.
    return isinstance(axis.get_major_formatter(), (FixedFormatter, FuncFormatter, NullFormatter))
