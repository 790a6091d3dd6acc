"""What the book shows, as one table: the paper's numbers and the committed results, nothing else.

Explorer and downloads are both made of it, so that what is downloaded is what is shown.
"""

from pathlib import Path

import pandas as pd

from widthprune.report.published import published
from widthprune.report.results import COLUMNS, load_results, tidy

# In the file that is downloaded, in this order; what tells runs apart comes before the numbers.
SHOWN = COLUMNS | {"paper_version": "string", "place": "string"}
PLACE = {"capabilities": "table of results", "criteria": "comparison of criteria"}


def shown_results(results_dir: str | Path) -> pd.DataFrame:
    """Every benchmark's number: published rows first, then those measured here, one a metric.

    Returns
    -------
    DataFrame
        The columns of `widthprune.load_results`, then ``paper_version`` and ``place`` of published rows.
    """
    tables = [published("capabilities"), published("criteria")]
    for table, name in zip(tables, PLACE, strict=True):
        table["place"] = PLACE[name]
    # The comparison of criteria does not repeat the widths.
    sizes = ["expansion_ratio", "intermediate_size"]
    widths = tables[0].drop_duplicates(["model", "pruning_pct"]).set_index(["model", "pruning_pct"])[sizes]
    tables[1][sizes] = widths.reindex(
        pd.MultiIndex.from_frame(tables[1][["model", "pruning_pct"]])
    ).to_numpy()
    tables.append(load_results(results_dir).assign(paper_version=pd.NA, place=pd.NA))
    return pd.concat([tidy(table, SHOWN) for table in tables], ignore_index=True)
