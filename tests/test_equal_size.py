"""Sizes that are matched are equal, and what is measured is what lm-eval's own class measures."""

import warnings

import numpy as np
import pytest
from conftest import tiny_model
from families import byte_tokenizer

from widthprune.calibration import Calibration
from widthprune.errors import WidthPruneError
from widthprune.pruning import prune_model
from widthprune.scores import score_model
from widthprune.studies import equal_size
from widthprune.studies import misconceptions as studied
from widthprune.studies.equal_size import (
    SIZES,
    matched_size,
    paired_change,
    pruned_count,
    study_heads,
    study_slicegpt,
)
from widthprune.studies.pairs import Pair
from widthprune.studies.slicegpt import count, sliced_count
from widthprune.studies.stored import AGAINST

PAIRS = {"pocket": [Pair("It is", " wet", " dry"), Pair("It was", " cold", " hot")] * 2}


def removals(model, tokenizer, pcts):
    nothing = {name: -scores for name, scores in score_model(model, "PPM").items()}
    return studied.removal_rows(model, tokenizer, PAIRS, nothing, pcts, draws=2)


def directions(model, tokenizer, pcts):
    return studied.direction_rows(model, tokenizer, PAIRS, pcts)


@pytest.fixture(scope="module")
def model():
    return tiny_model(vocab_size=300, tie_word_embeddings=True, max_position_embeddings=2048)


@pytest.mark.parametrize("embeddings", [True, False])
@pytest.mark.parametrize("pct", [10, 40])
def test_what_pruning_leaves_is_counted_from_sizes(model, pct, embeddings):
    assert pruned_count(model, pct, embeddings) == count(prune_model(model, pruning_pct=pct), embeddings)


def test_a_study(model):
    text = Calibration(text=["Water is wet. " * 20], sequences=4, length=64)
    table = study_slicegpt(model, byte_tokenizer(), [40.0], ["pocket_facts"], limit=4, calibration=text)
    sizes = table[table["metric"] == "width"].set_index("counted")
    for counted, embeddings in SIZES.items():
        size, own = pruned_count(model, 40.0, embeddings), sizes.loc[counted]
        assert own["parameters"] == sliced_count(model, own["width"], embeddings) <= size
        assert sliced_count(model, own["width"] + 1, embeddings) > size
    measured = table[table["task"] == "pocket_facts"]
    assert set(measured["counted"]) == {"without embeddings"} and set(measured["n"]) == {4}
    assert measured["value"].between(0, 1).all()


def test_a_size_that_slicing_does_not_reach():
    # Nearly all is the embedding, of which slicing makes two.
    model = tiny_model(vocab_size=6000, tie_word_embeddings=True, intermediate_size=8, num_hidden_layers=1)
    table = study_slicegpt(model, byte_tokenizer(), [60.0], [], calibration=Calibration(text=["a b c d"]))
    (row,) = table[table["counted"] == "all"].itertuples()
    assert (row.width, row.parameters, row.n) == (0, 0, 0)


@pytest.mark.parametrize("family", ["llama", "llama-mlp-bias", "qwen2"])
def test_neurons_that_leave_as_many_parameters(family):
    model = tiny_model(family)
    for fewer in (0, 1, 5000):
        size = matched_size(model, count(model) - fewer)
        assert count(prune_model(model, size=size)) <= count(model) - fewer
        assert size == 88 or count(prune_model(model, size=size + 1)) > count(model) - fewer
    with pytest.raises(WidthPruneError, match="width pruning leaves more than 100 parameters: remove less"):
        matched_size(model, 100)


@pytest.mark.parametrize("study", [study_heads, study_slicegpt, removals, directions])
def test_one_narrow_model_is_in_memory_at_a_time(model, study, one_at_a_time):
    for home, name in ((equal_size, "prune_model"), (equal_size, "slice_model"), (studied, "prune_model")):
        one_at_a_time(home, name)
    options = {}
    if study in (study_heads, study_slicegpt):
        text = Calibration(text=["Water is wet. " * 20], sequences=4, length=64)
        options = dict(tasks=["pocket_facts"], limit=2, calibration=text)
    study(model, byte_tokenizer(), pcts=[20.0, 40.0], **options)


def test_changes_item_by_item():
    texts = [[(-10.0, 5), (-30.0, 10), (-8.0, 5)], [(-12.0, 5), (-33.0, 10), (-9.0, 5)]]
    before, after = ([dict(word_perplexity=own) for own in each] for each in texts)
    change, stderr = paired_change(before, after, "word_perplexity")
    assert change == pytest.approx(6 / 20)  # of the logarithm of exp(48 / 20)
    # Differences 2, 3 and 1, less 0.3 a word: 0.5, 0 and -0.5.
    assert stderr == pytest.approx((0.5 / 2) ** 0.5 * 3**0.5 / 20)
    right = [[dict(acc=own) for own in each] for each in ([1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0])]
    change, stderr = paired_change(*right, "acc")
    assert change == -0.5 and stderr == pytest.approx((1 / 3) ** 0.5 / 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy's, of a spread of one
        change, stderr = paired_change(right[0][:1], right[1][:1], "acc")
    assert change == -1 and np.isnan(stderr)


def test_heads_beside_neurons_of_as_many_parameters(model):
    text = Calibration(text=["Water is wet. " * 20], sequences=4, length=64)
    tasks = ["pocket_facts", "pocket_prose"]
    table = study_heads(model, byte_tokenizer(), [20.0, 40.0], tasks, limit=4, calibration=text)
    keys = ["pruning_pct", "removed"]
    sizes = table.groupby(keys)[["groups", "neurons", "parameters"]].agg(["min", "max"])
    assert (sizes.xs("min", axis=1, level=1) == sizes.xs("max", axis=1, level=1)).all(axis=None)
    sizes = sizes.xs("min", axis=1, level=1)
    assert sizes.loc[(0, "nothing")].tolist() == [0, 88, count(model)]
    for pct, groups in ((20.0, 1), (40.0, 2)):
        both, alone = sizes.loc[(pct, "neurons and groups")], sizes.loc[(pct, "neurons")]
        # A group: 32 rows of q, k and v, and 16 columns of o.
        assert both["groups"] == groups and both["neurons"] == 88 - int(88 * pct / 100)
        assert both["parameters"] == pruned_count(model, pct) - groups * (32 + 16) * 32
        assert alone["parameters"] == pruned_count(model, size=alone["neurons"]) <= both["parameters"]
        assert alone["groups"] == 0
        these = sizes.loc[(pct, "these neurons")]
        assert these["parameters"] == pruned_count(model, pct) and these["groups"] == 0
        assert these["neurons"] == both["neurons"]
    own = table[(table["task"] == "pocket_facts") & (table["pruning_pct"] == 40)].set_index(
        ["removed", "metric"]
    )
    for removed, metric in AGAINST.items():
        means = [own.loc[(name, "acc"), "value"] for name in (removed, "neurons and groups")]
        paired = own.loc[("neurons and groups", metric)]
        assert paired["value"] == pytest.approx(means[1] - means[0]) and paired["n"] == 4
    prose = table[(table["task"] == "pocket_prose") & (table["pruning_pct"] == 40)].set_index(
        ["removed", "metric"]
    )
    for removed, metric in AGAINST.items():
        means = [prose.loc[(name, "word_perplexity"), "value"] for name in (removed, "neurons and groups")]
        found = prose.loc[("neurons and groups", metric), "value"]
        assert found == pytest.approx(np.log(means[1] / means[0]))
