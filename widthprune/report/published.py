"""The paper's published numbers, as tidy tables that ship with the package."""

from functools import cache
from importlib import resources

import pandas as pd

from ..errors import WidthPruneError
from .results import COLUMNS

# Table -> the place in the paper (arXiv 2512.22671) that its rows come from.
TABLES = {
    "capabilities": "v1, results by pruning level for 1B, 3B and 1B-Instruct, and the result tables released with it",
    "criteria": "v1 and v3, comparison of importance criteria on Llama-3.2-1B at 10%",
    "architectures": "v1, architecture of every pruned model",
    "efficiency_runs": "v1, efficiency tables; one row is one run released with the paper",
}


def published(table: str) -> pd.DataFrame:
    """One of the paper's tables, with its paper version and place; nothing in it was measured here.

    Parameters
    ----------
    table : str
        "capabilities" (model x pruning x task x metric), "criteria" (paper version x criterion x
        task), "architectures" (exact parameter counts) or "efficiency_runs" (one row a run; energy
        columns ``tracker_*`` are kg CO2eq, see `widthprune.efficiency.analysis`). The first two have the columns
        of measured results too, so one function draws both.

    Returns
    -------
    DataFrame
        With ``source`` "published", ``paper_version`` and ``place``.

    Raises
    ------
    WidthPruneError
        If there is no such table.
    """
    if table not in TABLES:
        raise WidthPruneError(f"table must be one of {', '.join(TABLES)}, got {table!r}")
    return _read(table).copy()


@cache  # chapters and their ledger ask for the same tables
def _read(table: str) -> pd.DataFrame:
    with (
        resources.files("widthprune.published_tables").joinpath(f"{table}.csv").open(encoding="utf-8") as file
    ):
        rows = pd.read_csv(file)
    rows["source"] = "published"
    if "paper_version" not in rows:
        rows["paper_version"] = "v1"
    rows["place"] = TABLES[table]
    if "metric" in rows:
        rows = rows.reindex(columns=[*COLUMNS, "paper_version", "place"])
    return rows.astype({name: dtype for name, dtype in COLUMNS.items() if name in rows})
