"""What rules may ask: published numbers by hand, measured ones over the same items, and what is not there."""

import numpy as np
import pandas as pd
import pytest

from widthprune import published
from widthprune.audit.evidence import Evidence, NoEvidence
from widthprune.audit.floors import load_floors
from widthprune.report.results import tidy


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
    left = e.relative("3B", "mmlu", 10, above_floor=True)
    assert left.change == pytest.approx((0.4333 - floor) / (0.5605 - floor) - 1)
    x, y = 0.5605 - floor, 0.4333 - floor
    dx, dy = (e._point("3B", "mmlu", pct)[1] for pct in (0, 10))
    assert left.stderr == pytest.approx(np.hypot(dy / x, y * dx / x**2))  # by propagation of errors
    assert e.gap("ifeval", 60) == pytest.approx(0)  # base and instruct model print the same 0.1368
    assert e._point("1B", "ifeval", 0)[1] == pytest.approx((0.1035 * 0.8965 / 541) ** 0.5)
    strict = e.relative("1B", "gsm8k", 40, "exact_match_strict")
    assert strict.change == pytest.approx(0.0091 / 0.0637 - 1) and strict.n == 1319


def test_criteria_and_shapes():
    e = evidence()
    assert e.criterion("v1", "MAW", "wikitext") == 17.49
    assert "PPM" in e.criteria("v3") and "MAW" not in e.criteria("v3")
    assert e.neurons("1B", 40) == 4916 and e.parameters_follow() == 0


def test_one_wrong_parameter_count_is_found():
    shapes = published("architectures")
    shapes.loc[0, "total_parameters_after"] += 1
    e = evidence()
    e.shapes = shapes
    assert e.parameters_follow() == 1


def test_workloads_and_joules():
    e = evidence()
    assert len(e.workloads(1)) == len(e.workloads(8)) == 3
    # Printed joules are kilograms of CO2 read as kWh.
    assert e.joules_true("1B", "mmlu_latency_b1", 0) / e.joules("1B", "mmlu_latency_b1", 0) == pytest.approx(
        2.86, abs=0.01
    )


def test_a_measured_effect_by_hand():
    e = evidence(run("none", 0, 0.8), run("PPM", 10, 0.6), run("L2", 10, 0.75))
    effect = e.shift("m", "pocket_facts", "PPM", 10)
    assert (effect.change, effect.stderr) == (pytest.approx(-0.2), pytest.approx(0.03 * 2**0.5))
    assert (effect.before, effect.n) == (0.8, 192) and effect.label == "pocket facts of m, PPM at 10%"
    assert (
        e.rule.falls(effect) == "yes"
        and e.rule.falls(e.shift("m", "pocket_facts", "L2", 10)) == "cannot tell"
    )


def test_errors_are_paired_where_the_answers_were_kept():
    e = evidence(
        run("none", 0, 0.8), run("PPM", 10, 0.6), run("PPM", 10, 0.25, metric="flip_rate", stderr=None)
    )
    effect = e.shift("m", "pocket_facts", "PPM", 10)
    assert effect.stderr == pytest.approx(((0.25 - 0.2**2) / 192) ** 0.5)
    assert e.seen[-1][-1]  # said in the row of the claim
    # Of items that are not right or wrong, the error of the change itself was kept.
    e = evidence(
        run("none", 0, 0.8), run("PPM", 10, 0.6), run("PPM", 10, 0.01, metric="change_stderr", stderr=None)
    )
    assert e.shift("m", "pocket_facts", "PPM", 10).stderr == pytest.approx(0.01)


def test_prompts_in_the_chat_template_are_asked_for():
    chat = [
        run("none", 0, 0.9) | {"chat_template": True},
        run("PPM", 10, 0.5) | {"chat_template": True},
        run("PPM", 20, 0.4) | {"chat_template": True},
    ]
    e = evidence(run("none", 0, 0.3), run("PPM", 10, 0.3), *chat)
    assert e.shift("m", "pocket_facts", "PPM", 10).change == 0
    assert e.shift("m", "pocket_facts", "PPM", 10, chat_template=True).change == pytest.approx(-0.4)
    assert e.measured("m", "pocket_facts", "none", 0) == 0.3
    assert e.measured("m", "pocket_facts", "none", 0, chat_template=True) == 0.9
    with pytest.raises(NoEvidence):
        e.measured("m", "pocket_facts", "PPM", 20)


PROSE = dict(task="pocket_prose", metric="word_perplexity")


def test_a_perplexity_gets_worse_when_it_grows_and_counts_by_its_logarithm():
    e = evidence(run("none", 0, 30.0, stderr=3.0, **PROSE), run("PPM", 10, 60.0, stderr=3.0, **PROSE))
    effect = e.shift("m", "pocket_prose", "PPM", 10)
    assert effect.change == pytest.approx(-np.log(2))
    assert effect.stderr == pytest.approx(np.hypot(3 / 30, 3 / 60))


def test_steps_go_from_width_to_width():
    runs = [("none", 0, 10.0), ("PPM", 10, 60.0), ("PPM", 20, 40.0)]
    e = evidence(*(run(name, pct, value, stderr=1.0, **PROSE) for name, pct, value in runs))
    assert [s.change for s in e.steps("m", "pocket_prose")] == pytest.approx([-np.log(6), np.log(1.5)])


def test_a_model_counts_where_it_is_better_than_word_frequencies():
    floor = load_floors().query("task == 'pocket_prose'")["value"].min()
    runs = [
        run("none", 0, 30.0, **PROSE),
        run("PPM", 10, floor - 1, **PROSE),
        run("PPM", 20, floor + 1, **PROSE),
    ]
    facts = [run("none", 0, 0.8), *(run("PPM", pct, 0.5) for pct in (10, 20, 30))]
    e = evidence(*runs, *facts)
    assert (e.widths("m"), e.broken("m")) == ([10], [20])  # at 30% nothing says whether it works
    assert [effect.label for effect in e.path("m", "pocket_facts")] == ["pocket facts of m, PPM at 10%"]
    # Where WikiText was measured, it decides.
    wiki = dict(task="wikitext", metric="word_perplexity")
    e = evidence(*runs, *facts, run("none", 0, 30.0, **wiki), run("PPM", 20, 100.0, **wiki))
    assert (e.widths("m"), e.broken("m")) == ([10, 20], [])


def test_what_a_model_knows_is_what_it_can_lose():
    working = [run("none", 0, 30.0, **PROSE), run("PPM", 10, 40.0, **PROSE)]
    facts = [run("none", 0, 0.8), run("PPM", 10, 0.5)]
    mmlu = [run("none", 0, 0.26, task="mmlu"), run("PPM", 10, 0.25, task="mmlu")]  # at the floor
    assert evidence(*working, *facts, *mmlu).knowledge("m") == "pocket_facts"
    with pytest.raises(NoEvidence, match="no knowledge above the floor"):
        evidence(*working, *mmlu).knowledge("m")
    with pytest.raises(NoEvidence, match="was not measured on MMLU or pocket facts under PPM and RANDOM"):
        evidence(*working, *facts).knowledge("m", "RANDOM")


def test_what_is_compared_is_on_the_same_items():
    few = [run("none", 0, 0.8, n=50), run("PPM", 10, 0.7, n=50), run("L2", 10, 0.4, n=50)]
    many = [run("none", 0, 0.9), run("PPM", 10, 0.6), run("PPM", 20, 0.5)]
    e = evidence(*few, *many)
    # PPM was measured on more items alone, and beside L2 on the few only.
    assert e.shift("m", "pocket_facts", "PPM", 10).change == pytest.approx(-0.3)
    assert e.shift("m", "pocket_facts", "L2", 10).change == pytest.approx(-0.4)


def test_draws_of_random_neurons_are_averaged_and_their_spread_counts():
    e = evidence(run("none", 0, 0.8), run("RANDOM", 10, 0.5, seed=0), run("RANDOM", 10, 0.7, seed=1))
    assert e.measured("m", "pocket_facts", "RANDOM", 10) == pytest.approx(0.6)
    # The draws saw the same items, whose error does not average out; the draws' own variance is 0.02.
    assert e.shift("m", "pocket_facts", "RANDOM", 10).stderr == pytest.approx((2 * 0.03**2 + 0.02 / 2) ** 0.5)


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


def test_criteria_are_compared_with_each_other_and_not_by_way_of_the_unpruned_model():
    runs = [run("none", 0, 0.9, stderr=0.3), run("PPM", 10, 0.5), run("L2", 10, 0.58), run("MAW", 10, 0.65)]
    working = [run("none", 0, 10.0, **PROSE), run("PPM", 10, 90.0, **PROSE), run("MAW", 10, 20.0, **PROSE)]
    working.append(run("L2", 10, 9000.0, **PROSE))
    e = evidence(*runs, *working)
    effect = e.better("m", "pocket_facts", "MAW", "PPM", 10)
    assert (effect.change, effect.stderr) == (pytest.approx(0.15), pytest.approx(0.03 * 2**0.5))
    assert e.better("m", "pocket_facts", "PPM", "MAW", 10).change == pytest.approx(-0.15)
    assert len(e.rivals("m", "pocket_facts", "L2", "PPM")) == 1
    # Two broken models are not compared.
    with pytest.raises(NoEvidence, match="MAW and PPM not compared with word frequencies on one text at 10%"):
        evidence(*runs).better("m", "pocket_facts", "MAW", "PPM", 10)


def test_other_rules_on_the_same_tables():
    e = evidence(run("none", 0, 0.8), run("PPM", 10, 0.6))
    strict = e.vary(sigmas=3.0, holm=False, without="m", floor_kinds=("blind", "reading"))
    assert (e.rule.sigmas, e.models()) == (2.0, ["m"]) and (strict.rule.sigmas, strict.models()) == (3.0, [])
    assert strict.floor("ifeval") == e.floor("ifeval", "reading") > e.floor("ifeval")
    assert strict.floor("mmlu") == e.floor("mmlu")


def test_what_a_responder_that_knows_nothing_does_of_a_rise():
    e = evidence()
    # From 0.1035, the prompt echoed is far above what the model reaches at 40%; the blind floor is not surely a rise.
    assert e.like("1B", "ifeval", 40, "reading") == "does more" and e.like("3B", "mmlu", 10) == "no"
    assert e.like("1B", "ifeval", 40) == "cannot tell"
    # Equal probability on every answer is as good as MC2 at 60%, and surely better than unpruned.
    assert e.like("3B", "truthfulqa_mc2", 60, "uniform", "shortest") in ("does as much", "does more")


def test_the_blind_floor_of_instructions_is_of_the_half_that_did_not_choose_its_text():
    e = evidence()
    half = e.floor_table.query("task == 'ifeval' and responder == 'one text repeated, chosen'").set_index(
        "metric"
    )
    held_out = half.loc["prompt_level_strict_acc_other_half"]
    assert (e.floor("ifeval"), held_out["n"]) == (held_out["value"], 271)
    error = (held_out["value"] * (1 - held_out["value"]) / 271) ** 0.5
    assert e._floor_and_error("ifeval") == pytest.approx((held_out["value"], error))
    assert e._floor_and_error("mmlu")[1] == 0  # what a die scores is known
    whole = e.vary(floor_kinds=("on all prompts",))
    assert whole._floor_and_error("ifeval") == (half.loc["prompt_level_strict_acc", "value"], 0)


def test_being_above_the_floor_is_corrected_over_all_widths():
    e = evidence()
    widths = [(m, pct) for m in ("1B", "3B") for pct in range(10, 70, 10)]
    corrected, alone = (
        {at for at in widths if world.above(at[0], "ifeval", at[1])} for world in (e, e.vary(holm=False))
    )
    assert corrected < alone
