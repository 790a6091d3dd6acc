"""Worlds say what they say they say: as often, in that share, the same for a seed."""

from collections import Counter

import numpy as np
import pytest

from widthprune import WidthPruneError
from widthprune.studies.worlds import (
    CLASSES,
    COPIED,
    NOUNS,
    TASKS,
    Tier,
    corpus,
    heldout,
    instructions,
    least_loss,
    make_world,
    prose,
    statements,
    usual_tiers,
)

TIERS = usual_tiers(6)


@pytest.fixture(scope="module")
def world():
    return make_world(3, TIERS)


def test_a_seed_gives_the_same_world_and_another_seed_another(world):
    again = make_world(3, TIERS)
    assert again.words == world.words and again.facts == world.facts
    assert np.array_equal(corpus(again, 50), corpus(world, 50))
    assert make_world(4, TIERS).facts != world.facts


def test_every_word_is_there_once_and_every_value_is_of_its_relation(world):
    assert len(set(world.words)) == len(world.words)
    assert len({(fact.subject, fact.relation) for fact in world.facts}) == len(world.facts)
    for fact in world.facts:
        assert fact.truth in world.values[fact.relation] and fact.other in world.values[fact.relation]
        assert fact.truth != fact.other


@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.name)
def test_frequencies_are_what_the_tier_says(world, tier):
    text = corpus(world, 50)
    said = Counter(zip(text, text[1:], text[2:], strict=False))
    own = [fact for fact in world.facts if fact.tier == tier.name]
    assert len(own) == tier.facts
    for fact in own:
        false = said[fact.subject, fact.relation, fact.other]
        assert said[fact.subject, fact.relation, fact.truth] + false == tier.times
        assert false == tier.times * tier.false_share


def test_prose_follows_its_grammar(world):
    said = prose(world, 2000, np.random.default_rng(0))
    nouns = world.starts["nouns"]
    plain = [s for s in said if len(s) == 7]
    assert abs(len(plain) / 2000 - (1 - COPIED)) < 0.04
    assert all(s[:3] == s[4:7] for s in said if len(s) == 8)
    for _, adjective, noun, verb, _, thing, _ in plain:
        own = (noun - nouns) // NOUNS
        kinds = [
            (word - world.starts[kind]) // 5 for word, kind in ((adjective, "adjectives"), (verb, "verbs"))
        ]
        assert kinds == [own, own]
        assert (thing - nouns) // NOUNS == world.objects[own, (verb - world.starts["verbs"]) % 5]


def test_heldout_prose_is_not_the_corpus(world):
    rows = heldout(world, 100, 16)
    assert rows.shape[1] == 16 and not np.array_equal(rows.ravel()[:64], corpus(world, 100)[:64])


def test_the_least_loss_by_hand():
    # No facts: the choices of the grammar alone, over its mean length of 7.2 tokens.
    world = make_world(0, [Tier("one", 1, 1)])
    plain, copied = np.log(CLASSES * 5 * NOUNS * 5 * NOUNS), 3 * np.log(CLASSES * NOUNS)
    choices = -0.2 * np.log(0.2) - 0.8 * np.log(0.8)
    expected = (choices + 0.2 * copied + 0.8 * plain) / 7.2
    assert least_loss(world, 10**9) == pytest.approx(expected, abs=1e-6)


def test_instructions_have_their_one_right_answer(world):
    made = instructions(world, 200, np.random.default_rng(1))
    seen = set()
    for prompt, answer in made:
        _, task, *given, _, _ = prompt
        name = world.words[task]
        right = dict(say=given, first=given[:1], last=given[-1:], twice=given * 2, swap=given[::-1])[name]
        assert answer == [*right, world.id(".")]
        seen.add(name)
    assert seen == set(TASKS)


@pytest.mark.parametrize(
    "tier", [Tier("odd", 2, 3, 0.5), Tier("none", 0, 3), Tier("silent", 2, 0), Tier("false", 2, 2, 2.0)]
)
def test_a_tier_that_cannot_be_said_is_refused(tier):
    with pytest.raises(WidthPruneError, match=f"tier {tier.name} must state") as error:
        make_world(0, [tier])
    assert "\n" not in str(error.value)
    assert statements(make_world(0, [Tier("even", 2, 4, 0.5)]))
