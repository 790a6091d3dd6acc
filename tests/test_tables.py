"""Tables for readers: values, errors, and where they come from."""

import re
from pathlib import Path

import pandas as pd
import pytest

from widthprune import published
from widthprune.efficiency.workloads import WORKLOADS
from widthprune.report.results import load_results, sweep, tidy
from widthprune.report.tables import by_ratio, in_words, origin, show
from widthprune.report.tasks import INSTRUCTIONS, METRICS, metric_words, workload_words


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


@pytest.mark.parametrize("axis", ["index", "columns"])
@pytest.mark.parametrize("several", [False, True])
def test_names_of_metrics_are_words_and_what_is_missing_is_empty(axis, several):
    rows = [
        ("pocket_facts", "acc", "0.5"),
        ("pocket_facts", "kl_to_unpruned", None),
        ("pocket_prose", "ece", "0.1"),
    ]
    long = pd.DataFrame(rows, columns=["task", "metric", "text"]).assign(run=1)
    if several:
        wide = long.pivot(index="run", columns=["task", "metric"], values="text")
    else:
        wide = long.pivot(index="task", columns="metric", values="text")
    shown = in_words(wide if axis == "columns" else wide.T)
    text = shown.to_html()
    assert "calibration error" in text and ">accuracy<" in text and METRICS["kl_to_unpruned"] in text
    assert not re.search("nan|None|>acc<|_", text)


def test_a_missing_number_stays_one_for_the_style_to_leave_out():
    table = in_words(pd.DataFrame({"value": [0.5, None]}))
    assert table["value"].isna().tolist() == [False, True]


@pytest.mark.parametrize("name", sorted({*WORKLOADS, *published("efficiency_runs")["workload"]}))
def test_a_workload_has_words(name):
    assert re.fullmatch(r"[A-Za-z ]+, batch [18]", workload_words(name))
    assert workload_words(name) in in_words(pd.DataFrame({"x": [1.0]}, index=[name])).to_html()


def test_every_kind_of_instruction_and_every_metric_kept_here_has_words_of_its_own():
    from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT

    assert set(INSTRUCTION_DICT) == set(INSTRUCTIONS) and len(set(INSTRUCTIONS.values())) == len(INSTRUCTIONS)
    kept = set(load_results(Path(__file__).parent.parent / "results")["metric"])
    words = {metric_words(metric) for metric in kept}
    assert len(words) == len(kept) and not {word for word in words if re.search("[_:](?! )", word)}
    assert {name for name in kept if not name.startswith("share_")} <= set(METRICS)
