"""The rows that a figure was drawn from stay with it, so that who sees a figure can have its numbers.

A function that draws names them by `keep_rows`. Where a notebook shows the figure, they stand beside its picture in the
output, as CSV; `drawn_rows` gives them as a table.
"""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MIME = "text/csv"
_ATTRIBUTE = "_widthprune_rows"


def keep_rows(ax: Axes, rows: pd.DataFrame, **same) -> None:
    """Note that these rows were drawn on ``ax``, with what is the ``same`` in all of them as further columns.

    An index with names is kept as columns.
    """
    figure = ax.get_figure(root=True)
    if any(name is not None for name in rows.index.names):
        rows = rows.reset_index()
    kept = [*getattr(figure, _ATTRIBUTE, ()), rows.assign(**same)]
    setattr(figure, _ATTRIBUTE, kept)
    # IPython asks an object for this before it asks the type's own formatters, and shows both.
    figure._repr_mimebundle_ = partial(_as_bundle, figure)


def drawn_rows(figure: Figure) -> pd.DataFrame:
    """Every row that was drawn on a figure, once; columns that are empty in all of them are left out."""
    kept = getattr(figure, _ATTRIBUTE, ())
    # As objects: what is missing in one part does not change the numbers of another.
    rows = pd.concat([part.astype(object) for part in kept] or [pd.DataFrame()], ignore_index=True)
    return rows.dropna(axis="columns", how="all").drop_duplicates(ignore_index=True)


def _as_bundle(figure: Figure, include=None, exclude=None) -> dict[str, str]:
    return {MIME: drawn_rows(figure).to_csv(index=False, lineterminator="\n")}
