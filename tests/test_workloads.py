"""Workloads: the paper's six, and prompts that depend on the seed alone."""

import pytest

from widthprune import WidthPruneError, published
from widthprune.workloads import WORKLOADS, find_workload, generated_prompts, read_prompts


def test_the_workloads_are_those_of_the_published_runs():
    runs = published("efficiency_runs").dropna(subset=["max_new_tokens"])
    for row in runs.itertuples():
        ours = WORKLOADS[row.workload]
        assert (ours.prompts, ours.max_new_tokens, ours.batch_size) == (
            row.num_prompts,
            row.max_new_tokens,
            row.batch_size,
        )


def test_generated_prompts_follow_their_seed():
    assert generated_prompts(3, 8, 97, seed=1) == generated_prompts(3, 8, 97, seed=1)
    assert generated_prompts(3, 8, 97, seed=1) != generated_prompts(3, 8, 97, seed=2)


def test_missing_data_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("WIDTHPRUNE_DATA", str(tmp_path))
    with pytest.raises(WidthPruneError, match="hellaswag: no file hellaswag/validation.jsonl"):
        read_prompts(find_workload("hellaswag_latency_b1"), 2, 0, lambda text: {"input_ids": [1]}, 97)


def test_a_tokenizer_is_needed():
    with pytest.raises(WidthPruneError, match="needs a tokenizer"):
        read_prompts(find_workload("mmlu_latency_b1"), 2, 0, None, 97)
