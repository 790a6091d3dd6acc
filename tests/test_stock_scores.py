"""The scores of a real model are those of lm-eval's own class, task by task."""

import pytest
from lm_eval.models.huggingface import HFLM

from widthprune import load_model
from widthprune.evaluation.engine.prefix_lm import PrefixLM
from widthprune.evaluation.measure import measure
from widthprune.evaluation.suites import find_benchmarks
from widthprune.report.tasks import SUITES, TASKS

LIMIT = 4
WRITTEN = 20  # tokens of an answer: where two texts part, they do so early


@pytest.fixture(scope="module")
def models():
    # In float32: where a bfloat16 text turns on its last bit, the two write different ones.
    model, tokenizer = load_model("smollm2-135m-instruct", dtype="float32")
    options = dict(pretrained=model, tokenizer=tokenizer, batch_size=4, softmax_dtype="float32")
    return HFLM(**options), PrefixLM(**options)


@pytest.mark.parametrize("task", SUITES["pocket"])
def test_within_two_standard_errors_of_stock(task, models, tmp_path):
    (benchmark,) = find_benchmarks([task], tmp_path)
    for leaf in benchmark.loaded["tasks"].values():
        if leaf.OUTPUT_TYPE == "generate_until":
            leaf.set_config("generation_kwargs", {"max_gen_toks": WRITTEN}, update=True)
    stock, ours = (
        next(row for row in measure(lm, benchmark, LIMIT, seed=0)[0] if row["metric"] == TASKS[task].metric)
        for lm in models
    )
    assert stock["n"] == ours["n"] == LIMIT
    # Four items that all agree have no spread; then the scores must be equal.
    assert abs(stock["value"] - ours["value"]) <= 2 * (stock["stderr"] or 0)
