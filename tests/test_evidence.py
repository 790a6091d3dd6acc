"""What rules may ask: published numbers by hand, measured ones over the same items, and what is not there."""

import pandas as pd
import pytest

from widthprune import published
from widthprune.audit.evidence import Evidence, NoEvidence
from widthprune.audit.floors import load_floors
from widthprune.results import tidy


def run(criterion, pct, value, task="pocket_facts", metric="acc", seed=None, n=192, stderr=0.03):
    return dict(
        model="m", criterion=criterion, neuron_seed=seed, pruning_pct=pct, task=task, metric=metric, value=value,
        stderr=stderr, n=n, limit=n, seed=0, num_fewshot=0, dtype="auto", chat_template=False,
    )  # fmt: skip


def evidence(*runs):
    return Evidence(tidy(pd.DataFrame(list(runs) or None)), load_floors())


def test_published_scores_changes_and_gaps():
    e = evidence()
    assert e.value("3B", "mmlu", 60) == 0.2589
    assert e.change("3B", "mmlu", 60) == pytest.approx(100 * (0.2589 / 0.5605 - 1))
    floor = e.floor("mmlu")
    assert e.kept("3B", "mmlu", 10) == pytest.approx(100 * (0.4333 - floor) / (0.5605 - floor))
    assert e.gap("ifeval", 60) == pytest.approx(0)  # base and instruct model print the same 0.1368
    assert e.error("1B", "ifeval", 0) == pytest.approx((0.1035 * 0.8965 / 541) ** 0.5)


def test_criteria_and_shapes():
    e = evidence()
    assert e.criterion("v1", "MAW", "wikitext") == 17.49
    assert "PPM" in e.criteria("v3") and "MAW" not in e.criteria("v3")
    assert e.neurons("1B", 40) == 4916 and e.parameters_follow() == 0


def test_one_wrong_parameter_count_is_found():
    shapes = published("architectures")
    shapes.loc[0, "total_parameters_after"] += 1
    assert Evidence(tidy(pd.DataFrame()), load_floors(), shapes=shapes).parameters_follow() == 1


def test_time_is_tokens_times_time_per_token():
    e = evidence()
    where = ("1B", "mmlu_latency_b1", 60)
    product = (1 + e.tokens(*where) / 100) * (1 + e.per_token(*where) / 100)
    assert product == pytest.approx(1 + e.ttlt(*where) / 100)
    assert len(e.workloads(1)) == len(e.workloads(8)) == 3
    # Printed joules are kilograms of CO2 read as kWh.
    assert e.joules_true("1B", "mmlu_latency_b1", 0) / e.joules("1B", "mmlu_latency_b1", 0) == pytest.approx(
        2.86, abs=0.01
    )


def test_measured_falls_and_rises_in_standard_errors():
    e = evidence(run("none", 0, 0.8), run("PPM", 10, 0.6), run("L2", 10, 0.75))
    assert e.falls("m", "pocket_facts", "PPM", 10) and not e.falls("m", "pocket_facts", "L2", 10)
    difference, error = e.measured_change("m", "pocket_facts", "PPM", 10)
    assert (difference, error) == (pytest.approx(-0.2), pytest.approx(0.03 * 2**0.5))


def test_prompts_in_the_chat_template_are_asked_for():
    chat = [
        run("none", 0, 0.9) | {"chat_template": True},
        run("PPM", 10, 0.5) | {"chat_template": True},
        run("PPM", 20, 0.4) | {"chat_template": True},
    ]
    e = evidence(run("none", 0, 0.3), run("PPM", 10, 0.3), *chat)
    assert not e.falls("m", "pocket_facts", "PPM", 10)
    assert e.falls("m", "pocket_facts", "PPM", 10, chat_template=True)
    assert e.measured("m", "pocket_facts", "none", 0) == 0.3
    assert e.measured("m", "pocket_facts", "none", 0, chat_template=True) == 0.9
    with pytest.raises(NoEvidence):
        e.measured("m", "pocket_facts", "PPM", 20)


def test_a_perplexity_falls_when_it_grows():
    prose = dict(task="pocket_prose", metric="word_perplexity", stderr=1.0)
    e = evidence(run("none", 0, 30.0, **prose), run("PPM", 10, 60.0, **prose))
    assert e.falls("m", "pocket_prose", "PPM", 10) and not e.rises("m", "pocket_prose", "PPM", 10)


def test_a_step_is_counted_in_errors_and_is_positive_for_better():
    prose = dict(task="pocket_prose", metric="word_perplexity")
    runs = [("none", 0, 10.0, 1.0), ("PPM", 10, 60.0, 3.0), ("PPM", 20, 40.0, 4.0)]
    e = evidence(*(run(name, pct, value, stderr=error, **prose) for name, pct, value, error in runs))
    assert e.step("m", "pocket_prose", "PPM", 10) == pytest.approx(-50 / 10**0.5)
    assert e.step("m", "pocket_prose", "PPM", 20) == pytest.approx(20 / (10 + 17) ** 0.5)


def test_what_is_compared_is_on_the_same_items():
    few = [run("none", 0, 0.8, n=50), run("PPM", 10, 0.7, n=50), run("L2", 10, 0.4, n=50)]
    many = [run("none", 0, 0.9), run("PPM", 10, 0.6), run("PPM", 20, 0.5)]
    e = evidence(*few, *many)
    # PPM was measured at most widths on the many, and beside L2 on the few only.
    assert e.measured_change("m", "pocket_facts", "PPM", 10)[0] == pytest.approx(-0.3)
    assert e.measured_change("m", "pocket_facts", "L2", 10)[0] == pytest.approx(-0.4)
    assert e.measured_change("m", "pocket_facts", "PPM", 10, beside=["L2"])[0] == pytest.approx(-0.1)
    assert e.beats("m", "pocket_facts", "PPM", "L2", 10)


def test_draws_of_random_neurons_are_averaged_and_their_spread_counts():
    e = evidence(run("none", 0, 0.8), run("RANDOM", 10, 0.5, seed=0), run("RANDOM", 10, 0.7, seed=1))
    assert e.measured("m", "pocket_facts", "RANDOM", 10) == pytest.approx(0.6)
    _, error = e.measured_change("m", "pocket_facts", "RANDOM", 10)
    items = (0.03**2 / 2 + 0.03**2) ** 0.5
    assert error == pytest.approx((items**2 + (0.02 / 2)) ** 0.5)  # the draws' variance is 0.02


def test_what_no_table_holds():
    e = evidence(run("none", 0, 0.8), run("PPM", 10, 0.6, n=50))
    for asked in (
        lambda: e.measured("m", "pocket_facts", "PPM", 20),
        lambda: e.measured("m", "pocket_facts", "PPM", 10),  # over other items than the unpruned model
        lambda: e.floor("ifeval", "no such responder"),
        lambda: e.value("1B", "ifeval", 45),
        lambda: e.joules_true("3B", "mmlu_latency_b1", 0),  # these runs recorded no energy
    ):
        with pytest.raises(NoEvidence):
            asked()


def test_one_criterion_beats_another_by_two_standard_errors():
    runs = [run("none", 0, 0.9, stderr=0.01), run("PPM", 10, 0.5), run("L2", 10, 0.58), run("MAW", 10, 0.65)]
    e = evidence(*runs)
    # Errors of 0.03 for each, and of 0.01 for the model that both are compared with.
    assert e.beats("m", "pocket_facts", "MAW", "PPM", 10) and not e.beats(
        "m", "pocket_facts", "L2", "PPM", 10
    )
    assert not e.beats("m", "pocket_facts", "PPM", "MAW", 10)
    prose = dict(task="pocket_prose", metric="word_perplexity", stderr=1.0)
    e = evidence(
        *(
            run(name, pct, ppl, **prose)
            for name, pct, ppl in [("none", 0, 10), ("PPM", 10, 90), ("L2", 10, 20)]
        )
    )
    assert e.beats("m", "pocket_prose", "L2", "PPM", 10)
    # Three draws that differ more than their items' errors decide less.
    draws = [run("RANDOM", 10, ppl, seed=seed, **prose) for seed, ppl in enumerate((5.0, 60.0, 120.0))]
    e = evidence(run("none", 0, 10, **prose), run("PPM", 10, 90, **prose), *draws)
    assert not e.beats("m", "pocket_prose", "RANDOM", "PPM", 10)
