import numpy as np
import pytest

from widthprune import WidthPruneError, published
from widthprune.report.published import TABLES
from widthprune.report.results import COLUMNS


@pytest.mark.parametrize(
    ("table", "rows"),
    [("capabilities", 352), ("criteria", 32), ("architectures", 15), ("efficiency_runs", 252)],
)
def test_whole_and_marked(table, rows):
    data = published(table)
    assert len(data) == rows
    assert set(data["source"]) == {"published"}
    assert data["paper_version"].notna().all() and data["place"].notna().all()


@pytest.mark.parametrize("table", ["capabilities", "criteria"])
def test_columns_of_measured_results(table):
    data = published(table)
    assert list(data.columns)[: len(COLUMNS)] == list(COLUMNS)
    assert (data.dtypes[list(COLUMNS)].astype(str) == list(COLUMNS.values())).all()


def test_the_grid_is_complete():
    counts = published("capabilities").groupby(["model", "pruning_pct"])["task"].nunique()
    assert counts.loc["Llama-3.2-1B"].tolist() == counts.loc["Llama-3.2-3B"].tolist() == [13] * 7
    assert counts.loc["Llama-3.2-1B-Instruct"].tolist() == [7] * 4


def test_an_overflow_is_kept():
    criteria = published("criteria")
    assert np.isinf(criteria["value"]).sum() == 2


def test_unknown_table():
    with pytest.raises(WidthPruneError, match="table must be one of capabilities, criteria, .* got 'speed'"):
        published("speed")


def test_each_table_names_its_place():
    assert all(place.startswith("v1") for place in TABLES.values())
