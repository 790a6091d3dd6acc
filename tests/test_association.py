"""Pairs of benchmarks: hand cases, brute force, a trusted reference, and the paper's numbers."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from widthprune import WidthPruneError, published
from widthprune.audit.association import (
    associate,
    associations,
    bootstrap_interval,
    partial_correlation,
    permutation_p,
)
from widthprune.report.results import tidy

RNG = np.random.default_rng(3)


def test_exact_p_of_three_points_by_hand():
    # Two of the six orders, the straight and the reversed one, reach |r| = 1.
    assert permutation_p([1, 2, 3], [1, 2, 3]) == pytest.approx(2 / 6)


def test_exact_p_is_that_of_all_orders():
    x, y = RNG.normal(size=(2, 6))
    orders = [abs(np.corrcoef(x, np.array(order))[0, 1]) for order in permutations(y)]
    expected = np.mean(np.array(orders) >= abs(np.corrcoef(x, y)[0, 1]) - 1e-12)
    assert permutation_p(x, y) == pytest.approx(expected)


def test_partial_correlation_is_the_regression_s():
    x, y, dose = RNG.normal(size=(3, 12))
    r, p = partial_correlation(x, y, dose)
    fit = sm.OLS(y, np.column_stack([np.ones(12), dose, x])).fit()
    assert p == pytest.approx(fit.pvalues[2])
    t = fit.tvalues[2]
    assert r == pytest.approx(t / np.sqrt(t**2 + fit.df_resid))


def test_two_series_that_only_follow_the_dose_have_no_partial_correlation():
    dose = np.arange(7.0)
    noise = np.array([1, -1, 0, 2, 0, -1, 1]) * 0.1
    other = np.array([0, 1, -1, 0, -1, 1, 0]) * 0.1  # orthogonal to the first, to a line and to a constant
    found = associate(5 - dose + noise, 3 + dose + other, dose)
    assert found["r"] < -0.99 and abs(found["partial_r"]) < 0.4 and found["partial_p"] > 0.3
    # Their noise is of no account beside the dose, so r is what the dose gives.
    assert found["dose_r"] == pytest.approx(found["r"], abs=0.005)


def test_steps_and_dose_by_hand():
    x, y, dose = [0.0, 1.0, 3.0, 4.0], [0.0, 2.0, 2.0, 5.0], [0.0, 1.0, 2.0, 3.0]
    found = associate(x, y, dose)
    assert found["steps_r"] == pytest.approx(np.corrcoef([1, 2, 1], [2, 0, 3])[0, 1])
    r = np.corrcoef([x, y, dose])
    assert found["dose_r"] == pytest.approx(r[0, 2] * r[1, 2])
    # The partial correlation is what r has beyond it.
    left = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert found["partial_r"] == pytest.approx(left)


def test_bootstrap_holds_the_coefficient_and_repeats():
    x, y = RNG.normal(size=(2, 15))
    low, high = bootstrap_interval(x, y)
    assert low < np.corrcoef(x, y)[0, 1] < high
    assert (low, high) == bootstrap_interval(x, y)


@pytest.fixture(scope="module")
def pairs():
    paper = published("capabilities")
    floors = {"mmlu": 0.272, "wikitext": 747.8}
    return associations(paper[~paper["model"].str.contains("Instruct")], floors)


@pytest.mark.parametrize(
    ("model", "r", "p"), [("Llama-3.2-3B", "-0.864", "0.012"), ("Llama-3.2-1B", "-0.676", "0.096")]
)
def test_the_paper_s_two_correlations(pairs, model, r, p):
    row = pairs.query("model == @model and knowledge == 'mmlu' and behaviour == 'truthfulqa_mc2'").iloc[0]
    assert (f"{row['r']:.3f}", f"{row['p']:.3f}", row["n"]) == (r, p, 7)
    # First differences as the audit quotes them.
    assert round(row["steps_r"], 2) == (-0.29 if model.endswith("3B") else -0.42)
    # What the audit says of them.
    assert row["partial_p"] > 0.05 and row["p_holm"] > 0.05
    assert row["n_above"] == (3 if model.endswith("3B") else 1) and np.isnan(row["r_above"])


def test_every_pair_is_there_and_corrected(pairs):
    assert len(pairs) == 2 * 9 * 4
    assert (pairs["p_holm"] >= pairs["p"]).all()
    smallest = pairs.nsmallest(1, "p").iloc[0]
    assert smallest["p_holm"] == pytest.approx(min(1, len(pairs) * smallest["p"]))


def test_a_perplexity_counts_as_above_its_floor_where_it_is_lower(pairs):
    row = pairs.query("model == 'Llama-3.2-3B' and knowledge == 'wikitext'").iloc[0]
    assert row["n_above"] == 7 and row["r_above"] == pytest.approx(row["r"])


def test_no_pair():
    rows = [dict(model="m", task="mmlu", metric="acc", pruning_pct=p, value=0.5) for p in (0, 10)]
    with pytest.raises(WidthPruneError, match="no pair of a fragile and a robust benchmark"):
        associations(tidy(pd.DataFrame(rows)))
