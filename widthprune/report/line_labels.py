"""Lines that carry their names at their right ends, in their colours: no eye has to go to a legend and back."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from scipy.optimize import isotonic_regression

MOST = 5  # lines that one panel can name
GID = "name of a line"
# From the middle of a name's left end: no text has to be cut out of it, which takes longer than all else here.
# Grey and thinly dotted: a line that ends early must not seem to go on to its name, nor the way there to be a floor.
_LEADER = dict(arrowstyle="-", linewidth=0.7, linestyle=(0, (1, 4)), color="0.5")
_LEADER |= dict(relpos=(0, 0.5), patchA=None, shrinkA=1, shrinkB=2)


def label_lines(ax: Axes, *, fontsize: float = 8.5) -> None:
    """Write the name of every labelled line beside its last point, moved apart where names would meet.

    Call it when scales and limits stand, and again when lines have come: names that were there are written anew, also those
    of panels that share the vertical axis, whose limits have moved. They lie right of the panel, and a dotted grey line
    leads to each that is not beside its end.
    """
    named = [ax] + [
        other for other in ax.get_shared_y_axes().get_siblings(ax) if _names(other) and other is not ax
    ]
    for one in named:
        _label(one, fontsize)


def _names(ax: Axes) -> list:
    return [text for text in ax.texts if text.get_gid() == GID]


def _label(ax: Axes, fontsize: float) -> None:
    for text in _names(ax):
        text.remove()
    ax.autoscale_view()  # limits are found when they are asked for
    handles, labels = ax.get_legend_handles_labels()
    lines = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]
    named = [(line, label, end) for line, label in zip(lines, labels, strict=True) if (end := _end(ax, line))]
    named.sort(key=lambda one: one[2][1])
    panel = (
        ax.get_position().height * ax.figure.get_figheight() * 72
    )  # in points, before the layout takes from it
    places = spread(np.array([end[1] for *_, end in named]), 1.35 * fontsize / panel)
    for (line, label, (x, y)), place in zip(named, places, strict=True):
        color = np.array(to_rgb(line.get_color()))
        away = x < 0.9 or abs(place - y) > 0.3 * fontsize / panel
        ax.annotate(
            label,
            (x, y),
            (1.04, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            annotation_clip=False,
            gid=GID,
            va="center",
            fontsize=fontsize,
            # Darker than the line: thin letters need more contrast than a line does.
            color=0.6 * color,
            arrowprops=_LEADER if away else None,
        )


def spread(places: np.ndarray, gap: float) -> np.ndarray:
    """Ascending places moved as little as can be, in least squares, until each is ``gap`` or more above the one before."""
    if not len(places):
        return places
    steps = gap * np.arange(len(places))
    return isotonic_regression(places - steps).x + steps


def _end(ax: Axes, line) -> tuple[float, float] | None:
    """A line's last finite point within the panel, as fractions of it."""
    points = np.column_stack([line.get_xdata(orig=False), line.get_ydata(orig=False)]).astype(float)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return None
    # By the line's own transform: one that goes across the panel has its x in fractions of it.
    x, y = ax.transAxes.inverted().transform(line.get_transform().transform(points[points[:, 0].argmax()]))
    return float(np.clip(x, 0, 1)), float(np.clip(y, 0, 1))
