"""Answers of effects: every verb by hand in each of its answers, Holm as statsmodels has it, and what would settle it."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from statsmodels.stats.multitest import multipletests

from widthprune.audit.effects import (
    AS_MUCH,
    MORE,
    NO,
    UNSURE,
    YES,
    Effect,
    Rule,
    agree,
    agree_controls,
    both,
    control,
    holm,
    inverse,
    models_needed,
    to_settle,
)


def z(*values, before=10.0):
    """Effects of so many standard errors of 1, on a score of ``before``."""
    return [Effect(value, 1.0, before, 100, "it") for value in values]


@pytest.mark.parametrize(
    ("verb", "effects", "answer"),
    [
        ("rises", z(3), YES),
        ("rises", z(-3), NO),
        ("rises", z(1), UNSURE),
        ("rises", z(-1), UNSURE),  # an insignificant fall says no more than an insignificant rise
        ("rises", z(5, -1), UNSURE),
        ("rises", z(5, -5), NO),
        ("rises", z(2.1), YES),
        ("rises", z(2.1, 2.1), UNSURE),  # the same with Holm over two
        ("rises", z(), UNSURE),
        ("falls", z(-3), YES),
        ("falls", z(3), NO),
        ("keeps", z(0, 1), YES),  # a loss of 2.5 is excluded
        ("keeps", z(-5, 1), NO),
        ("keeps", z(-1), UNSURE),  # neither a fall nor the exclusion of one
        ("some_rise", z(0, 5), YES),
        ("some_rise", z(0, -5), NO),
        ("some_rise", z(1), UNSURE),
        ("some_differ", z(0, -5), YES),
        ("some_differ", z(0, 5), YES),
        ("some_differ", z(1), UNSURE),
        ("some_differ", [Effect(0.1, 0.1, 10, 100)], NO),
        ("some_differ", [Effect(0.1, 0.1, 10, 100), Effect(-1.5, 1, 10, 100)], UNSURE),
        ("some_differ", [], UNSURE),
        ("not_worse", z(-1), YES),
        ("not_worse", z(-3), NO),
        ("compare", [Effect(0.1, 0.1, 10, 100)], AS_MUCH),
        ("compare", z(1), UNSURE),  # not significant, and a gain of a quarter is not excluded
        ("compare", [Effect(0.3, 0.1, 10, 100)], MORE),
        ("compare", [Effect(-0.3, 0.1, 10, 100)], NO),
        ("compare", z(5, -5), NO),
        ("compare", z(), UNSURE),
    ],
)
def test_answers_by_hand(verb, effects, answer):
    assert getattr(Rule(), verb)(*effects) == answer


@pytest.mark.parametrize("size", np.linspace(-4, 4, 32))
def test_as_much_requires_less_than_the_threshold_in_both_directions(size):
    assert Rule().compare(Effect(size / 100, 0.01, 10, 100)) == (
        NO if size < -2 else MORE if size > 2 else AS_MUCH
    )


@pytest.mark.parametrize(
    ("shows", "compared", "word"),
    [
        (True, AS_MUCH, AS_MUCH),
        (YES, MORE, MORE),
        (YES, UNSURE, UNSURE),
        (UNSURE, MORE, UNSURE),
        (NO, MORE, NO),
    ],
)
def test_a_control_has_to_show_the_effect_first(shows, compared, word):
    assert control(shows, compared) == word


def test_controls_of_several_models_have_one_answer():
    assert agree_controls([MORE, UNSURE]) == MORE and agree_controls([MORE, AS_MUCH]) == AS_MUCH
    assert agree_controls([MORE, NO]) == UNSURE == agree_controls([UNSURE])


@pytest.mark.parametrize("effects", [z(3), z(1), z(-1, 2), z(-4, 1), z(5, 5)])
def test_falling_is_rising_turned_round(effects):
    turned = [Effect(-e.change, e.stderr, e.before, e.n) for e in effects]
    assert Rule().falls(*effects) == Rule().rises(*turned)


def test_an_exact_p_is_preferred():
    assert Rule().rises(Effect(3, 1.0, p=0.2)) == UNSURE and Rule().falls(Effect(-1, 1.0, p=0.01)) == YES


def test_the_threshold_and_the_correction_are_the_rule_s():
    assert Rule(sigmas=3).rises(*z(2.5)) == UNSURE and Rule(sigmas=2).rises(*z(2.5)) == YES
    assert Rule(holm=False).rises(*z(2.1, 2.1)) == YES


def test_holm_is_that_of_statsmodels():
    p = np.random.default_rng(0).uniform(size=30) ** 3
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])


def test_what_has_no_error_is_undecided():
    assert Rule().rises(Effect(1, math.nan)) == UNSURE
    assert Rule().rises(Effect(0, 0.0)) == UNSURE  # every item the same, before and after


@pytest.mark.parametrize(
    ("answers", "all_of_them", "models"),
    [([YES, YES], YES, YES), ([YES, UNSURE], UNSURE, YES), ([YES, NO], NO, UNSURE), ([NO, UNSURE], NO, NO)],
)
def test_answers_together(answers, all_of_them, models):
    assert both(*answers) == all_of_them and agree(answers) == models
    assert inverse(inverse(answers[0])) == answers[0]


def test_what_would_settle_it_is_enough_and_no_more():
    rule = Rule()
    rule.rises(*z(1))
    undecided = rule.open[0].together()
    n = undecided.items()
    # At that many items, an effect as large is found with a chance of four in five.
    assert norm.sf(2 - math.sqrt(n / 100)) == pytest.approx(0.8)
    assert to_settle(rule) == f"{math.ceil(n):,} items instead of 100 (it)"
    rule = Rule()
    rule.rises(*z(0.0001))
    assert to_settle(rule).startswith("more than a million items")


def takes(effect, tests=1):
    return math.ceil(100 * ((norm.isf(Rule().alpha / 2 / tests) + norm.ppf(0.8)) / effect) ** 2)


@pytest.mark.parametrize(
    ("verb", "effects", "items"),
    [
        ("rises", z(1, 0.5), takes(0.5, 2)),  # all are wanted: the hardest decides
        ("rises", z(0.1, -1, -0.5), takes(1, 3)),  # one that falls is enough to say no
        ("falls", z(-1, -0.5), takes(0.5, 2)),
        ("keeps", z(-1, before=4), takes(1)),  # a loss of a quarter is not to be excluded, a fall is near
        ("keeps", z(0, before=4), takes(1)),
        ("some_rise", z(1, before=0), takes(1)),
    ],
)
def test_a_question_of_several_effects_is_settled_the_cheaper_way(verb, effects, items):
    rule = Rule()
    assert getattr(rule, verb)(*effects) == UNSURE
    assert to_settle(rule) == f"{items:,} items instead of 100 (it)"


def test_several_questions_need_each_to_be_answered():
    rule = Rule()
    rule.rises(*z(1)), rule.falls(*z(-0.5))
    assert to_settle(rule) == f"{takes(0.5):,} items instead of 100 (it)"


def test_a_correlation_takes_points_by_fisher_s_z():
    rule, r = Rule(), 0.864
    rule.rises(Effect(r, r / 1.2, n=7, label="it", unit="points", family=40))
    critical = norm.isf(rule.alpha / 2 / 40)
    n = rule.open[0].together().items()
    assert norm.sf(critical - math.atanh(r) * math.sqrt(n - 3)) == pytest.approx(0.8)
    assert to_settle(rule) == f"{math.ceil(n)} points instead of 7 (it)" and 10 < n < 20


def test_models_that_disagree():
    assert models_needed([YES, NO], 0.05) == 9  # eight against one
    assert binomtest(8, 9).pvalue < 0.05 < binomtest(7, 8).pvalue
    assert to_settle(Rule(), [YES, NO, UNSURE]).startswith("the models disagree: 9 models")
    assert to_settle(Rule()) == ""
