"""Which items are asked, how sure a perplexity is, and that the same answers always get the same scores."""

import json
import os
import random
import zlib

import langdetect
import numpy as np
import pytest
import torch
from lm_eval.api.model import LM

from widthprune.evaluation.measure import measure, perplexity_stderr, subset
from widthprune.evaluation.suites import find_benchmarks
from widthprune.pocket import scoring
from widthprune.report.tasks import SUITES


class Fixed(LM):
    """Answers that depend on the question alone."""

    def _value(self, request):
        return -float(zlib.crc32(repr(request.args[:2]).encode()) % 100)

    def loglikelihood(self, requests):
        return [(self._value(request), False) for request in requests]

    def loglikelihood_rolling(self, requests):
        return [self._value(request) for request in requests]

    def generate_until(self, requests):
        # langdetect takes it for English or for Catalan, as its generator falls.
        return ["EL ANIMAL IS TOTAL"] * len(requests)


def scored_again(benchmark, times):
    """Scores of the same answers, whatever state the generators are in."""
    for i in range(times):
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(i)
        yield measure(Fixed(), benchmark, 4, seed=0)


def test_ifeval_scores_the_same_answers_alike_twenty_times(tmp_path, monkeypatch):
    item = {"instruction_id_list": ["change_case:english_capital"], "kwargs": [{}]}
    rows = [json.dumps(item | {"key": i, "prompt": f"Shout, {i} times."}) for i in range(2)]
    (tmp_path / "ifeval").mkdir()
    (tmp_path / "ifeval/train.jsonl").write_text("\n".join(rows))
    monkeypatch.setenv("WIDTHPRUNE_DATA", str(tmp_path))
    # Sentences are not asked about; imported so, the scoring does not fetch the tables for them.
    monkeypatch.setattr("widthprune.evaluation.suites._sentence_tables_missing", lambda task: "")
    scoring._ifeval()
    (benchmark,) = find_benchmarks(["ifeval"], tmp_path)
    first, *others = scored_again(benchmark, 20)
    assert first[0] and all(other == first for other in others)
    assert langdetect.DetectorFactory.seed is None


@pytest.mark.parametrize("task", SUITES["pocket"])
def test_every_pocket_task_scores_the_same_answers_alike(task, tmp_path):
    (benchmark,) = find_benchmarks([task], tmp_path)
    first, other = scored_again(benchmark, 2)
    assert first[0] and other == first


def test_subsets_are_seeded_and_spread_over_a_group():
    sizes = {"a": 100, "b": 100}
    found = subset(sizes, 10, seed=0)
    assert [len(items) for items in found.values()] == [5, 5]
    assert found == subset(sizes, 10, seed=0) != subset(sizes, 10, seed=1)
    assert subset({"a": 3}, 10, seed=0) == {"a": [0, 1, 2]}
    assert subset(sizes, None, seed=0) is None


def test_perplexity_stderr_agrees_with_the_delta_method():
    random = np.random.default_rng(0)
    words = random.integers(50, 150, 200)
    logs = -words * 3 + random.normal(0, 20, 200)
    # d exp(m) = exp(m) dm, m the ratio of the sums, its variance from the residuals of that ratio.
    mean = -logs.sum() / words.sum()
    residuals = -logs - mean * words
    expected = np.exp(mean) * np.sqrt((residuals**2).sum()) / words.sum()
    assert perplexity_stderr(list(zip(logs, words, strict=True))) == pytest.approx(expected, rel=0.1)
    assert perplexity_stderr([(-1.0, 2)]) is None


def test_no_process_is_forked_for_an_error(monkeypatch, tmp_path):
    """A perplexity's error is a bootstrap, for which lm-eval forks unless it is told not to."""
    monkeypatch.setattr("multiprocessing.Pool", None)
    monkeypatch.setenv("DISABLE_MULTIPROC", "")
    (benchmark,) = find_benchmarks(["pocket_last_words"], tmp_path)
    rows, _ = measure(Fixed(), benchmark, 5, 0)
    (error,) = [row["stderr"] for row in rows if row["metric"] == "perplexity"]
    assert error > 0 and os.environ["DISABLE_MULTIPROC"] == ""
