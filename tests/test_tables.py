"""Tables for readers: values, errors, and where they come from."""

from widthprune import published
from widthprune.results import sweep, tidy
from widthprune.tables import by_ratio, origin, show


def test_a_published_sweep_by_ratio():
    table = by_ratio(sweep(published("capabilities"), "Llama-3.2-1B")).set_index("benchmark")
    assert len(table) == 13 and "n" not in table
    assert table.loc["MMLU", ["0%", "60%"]].tolist() == ["0.311", "0.255"]
    assert table.loc["WikiText perplexity", "0%"] == "11.57"
    assert table.loc["MuSR", "0%"] == "0.340 ± 0.017"


def test_origin_of_published_rows():
    assert origin(published("criteria")) == "Published: arXiv 2512.22671 v1 and v3, Llama-3.2-1B."


def test_origin_of_measured_rows():
    import pandas as pd

    row = {"model": "m", "source": "measured", "dtype": "auto", "limit": 50, "seed": 0, "device": "cpu: X"}
    rows = tidy(pd.DataFrame([row | {"commit": "0123456789abcdef"}, row | {"commit": None, "limit": None}]))
    assert origin(rows) == (
        "Measured: m, dtype auto, limit 50, all items, seed 0, on cpu: X, commit 012345678, none. "
        "± is one standard error."
    )


def test_the_caption_is_in_the_page():
    assert (
        "Published: arXiv 2512.22671 v1" in show(sweep(published("capabilities"), "Llama-3.2-3B")).to_html()
    )
