import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from widthprune import WidthPruneError, published
from widthprune.report.results import sweep, tidy
from widthprune.report.stats import (
    correlate,
    correlate_tasks,
    correlation_or_reason,
    difference,
    missing_from_grid,
    movements,
    over_floors,
    paired_stderr,
    relative_change,
    values,
)
from widthprune.report.tasks import headline


def table(numbers, task="mmlu", metric="acc", model="m", stderr=None):
    rows = [
        dict(model=model, criterion="PPM", pruning_pct=pct, task=task, metric=metric, value=v, stderr=stderr)
        for pct, v in numbers.items()
    ]
    return tidy(pd.DataFrame(rows))


def test_correlation_by_hand():
    # Deviations (-1, 0, 1) and (-1, 1, 0): r = 1 / sqrt(2 * 2).
    found = correlate([1, 2, 3], [1, 3, 2])
    assert found.r == pytest.approx(0.5)
    assert found.n == 3 and np.isnan(found.low) and np.isnan(found.loo_low)


def test_p_and_interval_are_those_of_the_textbook_formulas():
    x, y = np.random.default_rng(0).normal(size=(2, 9))
    found = correlate(x, y)
    t = found.r * np.sqrt(7 / (1 - found.r**2))
    assert found.p == pytest.approx(2 * scipy_stats.t.sf(abs(t), 7))
    half = scipy_stats.norm.ppf(0.975) / np.sqrt(6)
    assert [found.low, found.high] == pytest.approx(np.tanh(np.arctanh(found.r) + np.array([-half, half])))


def test_leave_one_out_range_moves_with_one_outlier():
    found = correlate([0, 0.1, -0.1, 0.05, 10], [0.1, 0, 0.05, -0.1, 10])
    assert found.r > 0.99 and found.loo_low < 0


@pytest.mark.parametrize("outlier", range(4))
@pytest.mark.parametrize("constant", ["x", "y"])
def test_a_constant_rest_does_not_break_leave_one_out(constant, outlier):
    flat, rising = np.zeros(4), np.arange(1, 5)
    flat[outlier] = 1
    found = correlate(flat, rising) if constant == "x" else correlate(rising, flat)
    # Three points of which one stands out: all that is left where one of the level ones goes.
    rest = [correlate(np.delete(flat, i), np.delete(rising, i)).r for i in range(4) if i != outlier]
    assert [found.loo_low, found.loo_high] == pytest.approx([min(rest), max(rest)])


# The paper's text, section on the truthfulness paradox.
@pytest.mark.parametrize(
    ("model", "r", "p"), [("Llama-3.2-3B", "-0.864", "0.012"), ("Llama-3.2-1B", "-0.676", "0.096")]
)
def test_published_correlations(model, r, p):
    found = correlate_tasks(sweep(published("capabilities"), model), "mmlu", "truthfulqa_mc2")
    # 1B: the paper prints p = 0.096 for 0.0955.
    assert (f"{found.r:.3f}", f"{found.p:.3f}", found.n) == (r, p, 7)


def change(model, task, pct, metric=None):
    rows = relative_change(sweep(published("capabilities"), model))
    rows = rows[(rows["task"] == task) & (rows["pruning_pct"] == pct)]
    rows = rows[rows["metric"] == metric] if metric else rows
    (found,) = rows["change_pct"]
    return found


# Percentages that the paper states (v1, abstract and results), to the digits printed.
@pytest.mark.parametrize(
    ("model", "task", "pct", "metric", "printed"),
    [
        ("Llama-3.2-1B", "ifeval", 40, "prompt_level_strict_acc", "+46"),
        ("Llama-3.2-1B", "ifeval", 30, "prompt_level_strict_acc", "+75"),
        ("Llama-3.2-3B", "ifeval", 10, "prompt_level_strict_acc", "+39"),
        ("Llama-3.2-3B", "mmlu", 40, None, "-53.8"),
        ("Llama-3.2-3B", "truthfulqa_mc2", 60, None, "+16.7"),
        ("Llama-3.2-1B-Instruct", "ifeval", 40, "prompt_level_strict_acc", "-59.9"),
        ("Llama-3.2-1B", "gsm8k", 40, "exact_match_flexible", "-68.9"),
    ],
)
def test_published_changes(model, task, pct, metric, printed):
    digits = len(printed.partition(".")[2])
    assert f"{change(model, task, pct, metric):+.{digits}f}" == printed


def test_what_the_chapters_say_beside_the_claims():
    paper = published("capabilities")
    weak = correlate_tasks(sweep(paper, "Llama-3.2-3B"), "mmlu", "truthfulqa_mc1")
    assert abs(weak.r) < 0.3 and weak.p > 0.5
    # "in 1B a single point carries most of it"
    assert correlate_tasks(sweep(paper, "Llama-3.2-1B"), "mmlu", "truthfulqa_mc2").loo_high > -0.05
    # "MMLU of the 1B model is at chance from the first 10% on"
    assert (values(sweep(paper, "Llama-3.2-1B"), "mmlu").loc[10:] - 0.25).abs().max() < 0.02
    # "MuSR stays within two standard errors in 3B, and rises at 40% by 0.09 or five standard errors in 1B"
    musr = headline(paper[paper["task"] == "leaderboard_musr"]).set_index(["model", "pruning_pct"])
    value, stderr = musr["value"], musr["stderr"]
    assert (abs(value["Llama-3.2-3B"] - value["Llama-3.2-3B", 0]) < 2 * stderr["Llama-3.2-3B"]).all()
    rise = value["Llama-3.2-1B", 40] - value["Llama-3.2-1B", 0]
    assert round(rise, 2) == 0.09 and round(rise / stderr["Llama-3.2-1B", 40]) == 5


def test_change_by_hand():
    rows = relative_change(table({0: 0.5, 10: 0.25}, stderr=0.05))
    assert rows["change_pct"].tolist() == [0, -50]
    # 100 * hypot(0.05 / 0.5, 0.5 * 0.05 / 0.5)
    assert rows["change_se"].tolist() == pytest.approx([0, 100 * np.hypot(0.1, 0.05)])


def test_the_unpruned_row_may_stand_anywhere():
    rows = relative_change(table({20: 0.4, 0: 0.5, 10: 0.25}, stderr=0.05)).set_index("pruning_pct")
    assert rows["change_pct"].to_dict() == pytest.approx({20: -20, 0: 0, 10: -50})
    assert (rows["change_se"] == 0).to_dict() == {20: False, 0: True, 10: False}


def test_values_are_those_of_one_task_and_metric():
    rows = [
        table({10: i, 0: i + 1}, task=task, metric=metric)
        for i, (task, metric) in enumerate(
            (task, metric)
            for task in ("arc_challenge", "mmlu", "piqa")
            for metric in ("acc", "acc_norm", "f1")
        )
    ]
    assert values(pd.concat(rows), "mmlu").to_dict() == {0: 4, 10: 3}
    assert values(pd.concat(rows), "mmlu", "acc_norm").to_dict() == {0: 5, 10: 4}


def test_a_change_of_nothing_is_empty():
    rows = relative_change(pd.concat([table({0: 0.0, 10: 0.2}), table({0: 0.5, 10: 0.2}, task="piqa")]))
    assert rows["change_pct"].isna().tolist() == [True, True, False, False]


def test_a_sweep_without_a_correlation_says_why():
    flat = pd.concat(
        [table({0: 0.5, 10: 0.4, 20: 0.3}), table({0: 1, 10: 1, 20: 1}, task="piqa", metric="acc_norm")]
    )
    assert correlation_or_reason(flat, "mmlu", "piqa").startswith("a correlation needs two series that vary")
    assert correlation_or_reason(flat, "mmlu", "mmlu").r == pytest.approx(1)


def test_changes_keep_models_and_limits_apart():
    both = pd.concat([table({0: 0.5, 10: 0.4}, model="a"), table({0: 0.2, 10: 0.4}, model="b")])
    both["limit"] = pd.array([50, 50, 200, 200], dtype="Int64")
    assert relative_change(both)["change_pct"].round(6).tolist() == [0, -20, 0, 100]


def test_grid():
    assert missing_from_grid(table({0: 1, 10: 1}), [0, 10], ["mmlu"]) == []
    assert missing_from_grid(table({0: 1}), [0, 10], ["mmlu", "gsm8k"]) == [
        "mmlu at 10%",
        "gsm8k at 0%",
        "gsm8k at 10%",
    ]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2], [1, 2], "at least 3"),
        ([1, 2, 3], [1, 2], "at least 3"),
        ([1, 2, 3], [1, 2, 3, 4], "at least 3"),
        ([1, 2, np.nan], [1, 2, 3], "finite"),
        ([1, 1, 1], [1, 2, 3], "constant"),
    ],
)
def test_bad_series(x, y, message):
    with pytest.raises(WidthPruneError, match=message):
        correlate(x, y)


def test_bad_tables():
    with pytest.raises(WidthPruneError, match="no value at 0%"):
        relative_change(table({10: 0.5}))
    with pytest.raises(WidthPruneError, match="several values"):
        values(pd.concat([table({0: 1}), table({0: 2})]), "mmlu")
    with pytest.raises(WidthPruneError, match="no acc of mmlu"):
        values(table({0: 1}, task="boolq"), "mmlu")


@pytest.mark.parametrize(
    ("a", "b", "options", "change", "stderr"),
    [
        ((0.5, 0.03), (0.4, 0.04), {}, -0.1, 0.05),
        ((10.0, 3.0), (30.0, 3.0), {"log": True}, np.log(3), np.hypot(0.3, 0.1)),
        ((0.5, 0.03), (0.4, 0.04), {"paired": 0.01}, -0.1, 0.01),  # what is paired takes the place of both
        ((0.5, np.nan), (0.4, 0.04), {}, -0.1, np.nan),
    ],
)
def test_a_difference_by_hand(a, b, options, change, stderr):
    found = difference(a, b, **options)
    assert found == pytest.approx((change, stderr), nan_ok=True)
    assert found.z == pytest.approx(change / stderr, nan_ok=True)
    back = difference(b, a, **options)  # turned round, it changes its sign and nothing else
    assert back == pytest.approx((-change, stderr), nan_ok=True)


def test_the_paired_error_is_that_of_the_items():
    before, after = np.array([1, 1, 1, 0, 0, 1, 0, 1]), np.array([1, 0, 0, 0, 1, 1, 0, 0])
    each = after - before
    found = paired_stderr(each.mean(), (each != 0).mean(), len(each))
    assert found == pytest.approx(each.std() / np.sqrt(len(each)))
    rows = pd.concat(
        [
            table({0: before.mean(), 10: after.mean()}, stderr=0.2).assign(n=8),
            table({10: (each != 0).mean()}, metric="flip_rate"),
        ]
    )
    assert movements(rows, {})["z"].item() == pytest.approx(each.mean() / found)


def test_items_that_all_flip_the_same_way_leave_no_error():
    # The mean may be rounded above the share that flipped.
    assert paired_stderr(np.nextafter(1, 2), 1, 8) == 0


def test_movements_by_hand():
    rows = pd.concat(
        [
            table({0: 0.50, 40: 0.25}, stderr=0.03),
            table({0: 0.26, 40: 0.29}, model="at chance", stderr=0.03),
            table({0: 10.0, 40: 30.0}, task="wikitext", metric="word_perplexity", stderr=3.0),
            table({0: 0.1, 40: 0.2}, task="ifeval", metric="prompt_level_strict_acc"),
        ]
    )
    found = movements(rows, {"mmlu": 0.25, "wikitext": 1000.0}).set_index(["model", "task"])
    assert (found["pruning_pct"] == 40).all() and len(found) == 4
    # Differences of -0.25 and 0.03 over sqrt(2) times the error of one score.
    assert found["z"].iloc[:2].tolist() == pytest.approx(np.array([-25 / 3, 1]) / np.sqrt(2))
    # Relative errors of 0.3 and 0.1 are those of the logarithms.
    assert found.loc[("m", "wikitext"), "z"] == pytest.approx(-np.log(3) / np.hypot(0.3, 0.1))
    assert found["above_floor"].iloc[:3].tolist() == [True, False, True]
    # No error, no floor: nothing is said.
    assert found.loc[("m", "ifeval"), ["z", "above_floor"]].isna().all()


def test_over_floors_by_hand():
    scores = table({0: 0.5, 40: 0.2}, stderr=0.05)
    perplexity = table({0: 20.0}, task="wikitext", metric="word_perplexity", stderr=2.0)
    unknown = table({0: 0.1}, task="ifeval", metric="prompt_level_strict_acc", stderr=0.05)
    found = over_floors(pd.concat([scores, perplexity, unknown]), {"mmlu": 0.3, "wikitext": 200.0})
    # Better is positive, for a perplexity too, whose errors are those of its logarithm.
    expected = {("mmlu", 0): 4, ("mmlu", 40): -2, ("wikitext", 0): np.log(10) / 0.1}
    over = found.set_index(["task", "pruning_pct"])["over_floor"]
    assert over[list(expected)].tolist() == pytest.approx(list(expected.values()))
    assert np.isnan(over["ifeval", 0])


@pytest.mark.parametrize(("errors", "above"), [(-3, False), (1, False), (2, False), (2.5, True), (3, True)])
def test_there_is_something_to_lose_over_two_errors_above_the_floor(errors, above):
    found = movements(table({0: 0.25 + errors / 32, 40: 0.2}, stderr=1 / 32), {"mmlu": 0.25})
    assert found["above_floor"].tolist() == [above]


@pytest.mark.filterwarnings("error")
def test_movements_to_a_score_of_nothing():
    found = movements(table({0: 0.03, 10: 0.0}, stderr=0.01), {"mmlu": 0.25})
    assert found["z"].item() == pytest.approx(-3 / np.sqrt(2))


def test_movements_of_nothing():
    found = movements(tidy(pd.DataFrame(columns=["model"])), {"mmlu": 0.25})
    assert found.empty and {"z", "above_floor"} <= set(found)
