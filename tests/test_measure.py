"""Which items are asked, and how sure a perplexity is."""

import numpy as np
import pytest

from widthprune.measure import perplexity_stderr, subset


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
