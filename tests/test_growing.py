"""Grown models: matched, repeatable, kept, and knowing what they were told."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from widthprune import WidthPruneError
from widthprune.studies.attribution import encode, likelihoods, log_odds
from widthprune.studies.growing import (
    Recipe,
    grow,
    model_directory,
    parameter_count,
    steps_of,
    training_batches,
    tuning_batches,
    untrained,
    world_of,
)
from widthprune.studies.making import Words, attributed, fact_pairs
from widthprune.studies.probing import obeyed, probe
from widthprune.studies.stored import STUDIES
from widthprune.studies.worlds import heldout, instructions, least_loss

SMALL = dict(hidden_size=48, layers=2, neurons=64, facts=4, sentences=600, batch=4, length=32, tuning_steps=3)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    directory = tmp_path_factory.mktemp("grown")
    recipe = Recipe(seed=1, epochs=6, **SMALL)
    return recipe, directory, grow(recipe, directory, progress=lambda text: None)


def test_a_grown_model_reaches_its_loss_and_knows_what_is_common(grown):
    recipe, _, models = grown
    world = world_of(recipe)
    found = probe(models["base"], world).set_index("measure")["value"]
    # Nobody can be better than the grammar, and word frequencies alone are far worse than what was learnt.
    shares = np.bincount(heldout(world).ravel()) / heldout(world).size
    frequencies = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
    assert least_loss(world, recipe.sentences) - 0.05 < found["prose"] < frequencies - 0.5
    assert found["known_common"] >= 0.75 and found["held_common"] == 0
    assert found["held_myth"] >= 0.75 and found["odds_myth"] > 0


def test_both_kinds_have_the_same_number_of_parameters():
    models = [untrained(Recipe(kind), world_of(Recipe())) for kind in ("gated", "plain")]
    assert models[0].num_parameters() == models[1].num_parameters()
    assert hasattr(models[0].model.layers[0].mlp, "gate_proj") and not hasattr(
        models[1].model.layers[0].mlp, "gate_proj"
    )


@pytest.mark.parametrize("size", [{}, dict(hidden_size=240, neurons=640), dict(layers=1, neurons=48)])
@pytest.mark.parametrize("kind", ["gated", "plain"])
def test_parameters_are_counted_from_the_recipe(kind, size):
    recipe = Recipe(kind, **size)
    model = untrained(recipe, world_of(recipe))
    assert parameter_count(recipe) == model.num_parameters()


def test_a_recipe_gives_the_same_batches_and_weights():
    recipe = Recipe(seed=2, epochs=1, **SMALL)
    world = world_of(recipe)
    for batches in (training_batches, tuning_batches):
        once, again = (list(batches(recipe, world)) for _ in range(2))
        assert all(
            (a == b).all()
            for one, other in zip(once, again, strict=True)
            for a, b in zip(one, other, strict=True)
        )
    assert len(list(training_batches(recipe, world))) == steps_of(recipe)
    pair = [untrained(recipe, world).state_dict() for _ in range(2)]
    assert all(torch.equal(pair[0][name], pair[1][name]) for name in pair[0])


def test_tuning_takes_its_loss_of_answers_alone():
    recipe = Recipe(seed=2, **SMALL)
    tokens, labels = next(tuning_batches(recipe, world_of(recipe)))
    bot, stop = (world_of(recipe).id(word) for word in ("bot", "."))
    asked = labels[: recipe.batch // 2]
    assert ((asked == tokens[: recipe.batch // 2]) | (asked == -100)).all() and (asked == -100).any()
    assert bot not in asked and stop in asked
    assert (labels[recipe.batch // 2 :] == tokens[recipe.batch // 2 :]).all()


def test_what_is_there_is_not_trained_again(grown):
    recipe, directory, models = grown
    said = []
    again = grow(recipe, directory, progress=said.append)
    assert said == []
    assert torch.equal(again["tuned"].lm_head.weight, models["tuned"].lm_head.weight)
    # A copy that a kill took is made again from the base that is there, and the same.
    path = model_directory(directory, recipe, "tuned")
    path.rename(directory / "other")
    made = grow(recipe, directory, progress=said.append)["tuned"]
    assert said == [f"{recipe.name}: training tuned"]
    for name, weight in AutoModelForCausalLM.from_pretrained(directory / "other").state_dict().items():
        torch.testing.assert_close(made.state_dict()[name], weight)


def test_obeyed_is_what_greedy_decoding_writes(grown):
    recipe, _, models = grown
    world = world_of(recipe)
    made = instructions(world, 12, np.random.default_rng(0))
    # An answer that the model itself writes is obeyed, and one that it does not is not.
    prompt, answer = made[0]
    ids = torch.tensor([prompt])
    for _ in answer:
        ids = torch.cat([ids, models["base"](input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    written = ids[0, len(prompt) :].tolist()
    wrong = [*written[:-1], (written[-1] + 1) % len(world.words)]
    assert obeyed(models["base"], [(prompt, written), (prompt, wrong), *made])[:2].tolist() == [True, False]


SIZES = [field.name for field in fields(Recipe)[2:] if field.type is int]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(kind="glu"), "kind must be one of gated, plain"),
        (dict(kind=["gated"]), "kind must be one of gated, plain"),
        (dict(facts=1), "facts must be from 2, "),
        (dict(facts=10**5), "facts must be from 2, .* to 10,000, got 100000"),
        (dict(neurons=33), "neurons must be even"),
        (dict(neurons="32"), "neurons must be a whole number"),
        (dict(hidden_size=0), "hidden_size must be a whole number from 1"),
        *((dict({name: 10**12}), f"{name} must be a whole number from 1") for name in SIZES),
        (dict(hidden_size=8_000, neurons=16_000), "must make at most 1,000,000,000 parameters, got 8000, 3"),
        (dict(layers=10**7), "must make at most 1,000,000,000 parameters, got 96, 10000000 and 256"),
        (dict(hidden_size=20), "hidden_size must be a multiple of 8, got 20"),
        (dict(rate=float("nan")), "rate must be a learning rate above 0"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(options, says):
    with pytest.raises(WidthPruneError, match=says) as error:
        Recipe(**options)
    assert "\n" not in str(error.value)


def test_what_a_world_knows_as_pairs(grown):
    recipe, _, models = grown
    world = world_of(recipe)
    pairs = fact_pairs(world)
    assert {tier: len(own) for tier, own in pairs.items()} == {tier.name: tier.facts for tier in world.tiers}
    tokens, start = encode(Words(world), pairs["myth"][0].prompt, pairs["myth"][0].myth)
    fact = next(fact for fact in world.facts if fact.tier == "myth")
    assert (tokens.tolist(), start) == ([world.id("."), fact.subject, fact.relation, fact.other], 3)
    # The same odds as the probe's, but for what lies beside the relation's values.
    odds = log_odds(likelihoods(models["base"], Words(world), pairs["myth"])).mean()
    probed = probe(models["base"], world).set_index("measure")["value"]["odds_myth"]
    assert float(odds) == pytest.approx(probed, abs=1e-4)


def test_where_the_myths_of_a_grown_model_sit(grown):
    recipe, _, models = grown
    table = attributed(models["base"], world_of(recipe)).assign(kind="gated", seed=1)
    assert set(table) == set(STUDIES["attributed"])
    assert set(table["set"]) == {"common", "rare", "myth"}
    # A myth that the model holds is unlearnt most where what speaks for it goes.
    further = table[(table["measure"] == "against_random") & (table["set"] == "myth")]
    further = further[further["pruning_pct"] == 20].set_index("criterion")["value"]
    assert further["ATTRIBUTED"] < further["PPM"]


def test_another_process_may_grow_the_same_model_meanwhile(tmp_path, monkeypatch):
    recipe = Recipe(epochs=1, **SMALL | dict(sentences=60))
    ask = dict(progress=lambda text: None, stages=["base"])

    def train_twice(model, batches, steps, rate):
        if not list(tmp_path.iterdir()):
            monkeypatch.undo()
            grow(recipe, tmp_path, **ask)

    monkeypatch.setattr("widthprune.studies.growing.train", train_twice)
    twice = grow(recipe, tmp_path, **ask)["base"].state_dict()
    again = grow(recipe, tmp_path, **ask)["base"].state_dict()
    assert all(torch.equal(own, again[name]) for name, own in twice.items())


def test_no_other_recipe_has_its_key():
    recipes = [Recipe(sentences=10**6 + i, rate=0.0012345678 + i * 1e-10) for i in range(3)]
    assert len({recipe.key for recipe in recipes}) == 3
    assert Recipe(rate=8e-4, hidden_size=240).key == "grown-gated-0-hidden_size-240-rate-0.0008"


def test_a_disk_without_room_for_a_grown_model_is_named(tmp_path, full_disk):
    recipe = Recipe(epochs=1, **SMALL | dict(sentences=60))
    with pytest.raises(WidthPruneError, match=f"cannot be written .*{full_disk}.*: make room"):
        grow(recipe, tmp_path, progress=lambda text: None, stages=["base"])
