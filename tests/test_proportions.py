"""Scores against the unpruned one: hand cases, agreement with the published errors, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from widthprune import WidthPruneError, published
from widthprune.audit.proportions import against_unpruned
from widthprune.report.results import tidy


def table(values, task="boolq", n=None):
    rows = [
        dict(model="m", criterion="PPM", task=task, metric="acc", pruning_pct=p, value=v, n=n)
        for p, v in values.items()
    ]
    return tidy(pd.DataFrame(rows))


def test_two_proportions_by_hand():
    found = against_unpruned(table({0: 0.5, 10: 0.4}, n=100)).set_index("pruning_pct")
    z = -0.1 / np.sqrt((0.5 * 0.5 + 0.4 * 0.6) / 100)
    assert found.loc[10, "z"] == pytest.approx(z)
    assert found.loc[10, "p"] == pytest.approx(2 * stats.norm.sf(-z))
    assert found.loc[0, "binomial_se"] == pytest.approx(0.05)
    assert np.isnan(found.loc[0, "p"])


def test_published_errors_are_binomial():
    found = against_unpruned(published("capabilities"))
    ifeval = found[found["task"] == "ifeval"]
    np.testing.assert_allclose(ifeval["binomial_se"], ifeval["stderr"], atol=1.5e-4)


def test_what_the_ledger_says_of_the_rise_in_instructions():
    p = against_unpruned(published("capabilities")).set_index(["model", "task", "pruning_pct"])["p"]
    assert p["Llama-3.2-1B", "ifeval", 40] < 0.05 < p["Llama-3.2-3B", "ifeval", 10]


def test_all_wrong_both_times_is_no_difference():
    found = against_unpruned(table({0: 0.0, 10: 0.0}, n=50)).set_index("pruning_pct")
    assert found.loc[10, "p"] == 1


def test_an_unknown_number_of_items():
    with pytest.raises(WidthPruneError, match="pocket_facts has neither n nor an official size"):
        against_unpruned(table({0: 0.5, 10: 0.4}, task="pocket_facts"))
