"""Sizes that are matched are equal, and what is measured is what lm-eval's own class measures."""

import pytest
from conftest import tiny_model
from families import byte_tokenizer

from widthprune.calibration import Calibration
from widthprune.pruning import prune_model
from widthprune.studies.equal_size import SIZES, pruned_count, study_slicegpt
from widthprune.studies.slicegpt import count, sliced_count


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
