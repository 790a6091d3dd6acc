"""Workloads: the paper's six, and prompts that depend on the seed alone."""

import json

import pytest

from widthprune import WidthPruneError, published
from widthprune.efficiency.workloads import WORKLOADS, find_workload, generated_prompts, read_prompts


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


def test_prompts_are_a_seeded_draw_of_the_items(tmp_path, monkeypatch):
    rows = [
        {
            "ctx_a": f"q{i}",
            "ctx_b": "b",
            "activity_label": "walk",
            "endings": ["a", "b", "c", "d"],
            "label": "0",
        }
        for i in range(6)
    ]
    (tmp_path / "hellaswag").mkdir()
    file = tmp_path / "hellaswag" / "validation.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("WIDTHPRUNE_DATA", str(tmp_path))
    work = find_workload("hellaswag_latency_b1")
    drawn = [read_prompts(work, 3, seed, lambda text: {"input_ids": text}, 97) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 3 and "q" in drawn[0][0]
    with pytest.raises(WidthPruneError, match="prompts must be at most 6, the items of hellaswag, got 7"):
        read_prompts(work, 7, 0, lambda text: {"input_ids": [1]}, 97)
