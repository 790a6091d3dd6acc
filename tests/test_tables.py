"""Tables for readers: values, errors, and where they come from."""

import pandas as pd
import pytest

from widthprune import published
from widthprune.report.results import sweep, tidy
from widthprune.report.tables import by_ratio, origin, show


def test_a_published_sweep_by_ratio():
    table = by_ratio(sweep(published("capabilities"), "Llama-3.2-1B")).set_index("benchmark")
    assert len(table) == 13 and "n" not in table
    assert table.loc["MMLU", ["0%", "60%"]].tolist() == ["0.311", "0.255"]
    assert table.loc["WikiText perplexity", "0%"] == "11.57"
    assert table.loc["MuSR", "0%"] == "0.340 ± 0.017"
    assert table.loc["IFEval", "metric"] == "prompts followed, strict"


def test_origin_of_published_rows():
    assert origin(published("criteria")) == "Published: arXiv 2512.22671 v1 and v3, Llama-3.2-1B."


def test_origin_of_measured_rows():
    row = {"model": "m", "source": "measured", "dtype": "auto", "limit": 50, "seed": 0, "device": "cpu: X"}
    rows = tidy(
        pd.DataFrame([row | {"commit": "0123456789abcdef+dirty"}, row | {"commit": None, "limit": None}])
    )
    assert origin(rows) == (
        "Measured: m (the checkpoint&#x27;s dtype), limit 50, all items, seed 0, on cpu: X, commit 012345678+dirty, "
        "none. ± is one standard error."
    )


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"model": "smollm2-135m-instruct"}, "Q4_1, dequantized to bfloat16"),
        (
            {"model": "smollm2-135m-instruct", "dtype": "float32"},
            "Q4_1, dequantized to bfloat16, read as float32",
        ),
        ({"weights_format": "bfloat16", "compute_dtype": "float32"}, "bfloat16, computed in float32"),
        ({"weights_format": "bfloat16", "compute_dtype": "bfloat16"}, "bfloat16"),
    ],
)
def test_origin_says_the_precision_of_weights_and_arithmetic(row, shown):
    measured = {"model": "m", "source": "measured", "dtype": "auto", "limit": 5, "seed": 0, "device": "cpu"}
    assert f"({shown}), limit 5" in origin(tidy(pd.DataFrame([measured | row])))


def test_the_caption_is_in_the_page():
    assert (
        "Published: arXiv 2512.22671 v1" in show(sweep(published("capabilities"), "Llama-3.2-3B")).to_html()
    )
