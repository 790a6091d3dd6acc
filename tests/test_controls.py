"""Controls: an untrained twin, and criteria compared where their perplexity is equal."""

import numpy as np
import pandas as pd
import pytest
import torch

from widthprune import WidthPruneError, load_model
from widthprune.audit.comparisons import same_damage
from widthprune.audit.controls import different_neurons, random_initialised, same_neurons
from widthprune.report.results import one_sweep, tidy


def test_a_random_twin_has_the_shape_and_none_of_the_weights(language_model, tmp_path):
    where = random_initialised(language_model, tmp_path / "drawn", seed=1)
    trained, tokenizer = load_model(language_model)
    drawn, same = load_model(str(where))
    assert same.encode("the test") == tokenizer.encode("the test")
    one, other = trained.state_dict(), drawn.state_dict()
    assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in other.items()}
    name = "model.layers.0.mlp.gate_proj.weight"
    assert not torch.allclose(one[name], other[name])
    again = random_initialised(language_model, tmp_path / "again", seed=1)
    torch.testing.assert_close(load_model(str(again))[0].state_dict()[name], other[name])


def test_an_untrained_twin_that_is_there_is_taken(language_model, tmp_path):
    where = random_initialised(language_model, tmp_path / "drawn")
    before = (where / "model.safetensors").stat().st_mtime_ns
    assert random_initialised(language_model, where, seed=5) == where
    assert (where / "model.safetensors").stat().st_mtime_ns == before


def test_different_neurons_of_a_tiny_model(language_model):
    found = different_neurons(language_model, [10, 90])
    assert (found["shared"] > found["by_chance"] - 0.1).all() and (found["shared"] <= 1).all()
    assert different_neurons(language_model, [50], "L2", "L2")["shared"].tolist() == [1]


def rows(criterion, points, seed=None, data="same"):
    """Two tasks of one model at each (percentage, perplexity, score)."""
    return [
        dict(
            model="m",
            criterion=criterion,
            neuron_seed=seed,
            pruning_pct=pct,
            task=task,
            metric=metric,
            value=v,
            n=17,
            data=data,
            seed=0,
            num_fewshot=0,
            dtype="auto",
        )
        for pct, perplexity, score in points
        for task, metric, v in (
            ("pocket_prose", "word_perplexity", perplexity),
            ("pocket_facts", "acc", score),
        )
    ]


WHOLE = rows("none", [(0, 10.0, 0.8)])


def test_equal_damage_by_hand():
    # At perplexity 100, halfway in the logarithm between 10 and 1000.
    table = WHOLE + rows("PPM", [(10, 1000.0, 0.2)]) + rows("RANDOM", [(10, 100.0, 0.6)], seed=3)
    found = same_damage(tidy(pd.DataFrame(table)), "pocket_facts")
    # From the unpruned model's to the largest that both reach.
    ends = found[found["perplexity"].round(6).isin([10, 100])]
    by = ends.groupby("criterion")["value"].agg(list)
    assert by["PPM"] == pytest.approx([0.8, 0.5]) and by["RANDOM"] == pytest.approx([0.8, 0.6])


def test_the_common_range_ends_where_the_first_criterion_ends():
    table = WHOLE + rows("PPM", [(10, 1000.0, 0.2)]) + rows("L2", [(10, 50.0, 0.6), (20, np.inf, 0.1)])
    found = same_damage(tidy(pd.DataFrame(table)), "pocket_facts")
    assert found["perplexity"].min() == 10 and found["perplexity"].max() == pytest.approx(50)
    assert found["value"].notna().all()


def test_results_over_other_items_are_left_out():
    table = WHOLE + rows("PPM", [(10, 1000.0, 0.2)]) + rows("L2", [(10, 900.0, 0.3)], data="another")
    found = one_sweep(tidy(pd.DataFrame(table)))
    assert set(found["criterion"]) == {"none", "PPM"}
    assert set(same_damage(tidy(pd.DataFrame(table)), "pocket_facts")["criterion"]) == {"PPM"}


def test_what_cannot_be_compared():
    with pytest.raises(WidthPruneError, match="needs it and pocket_prose on one unpruned model"):
        same_damage(tidy(pd.DataFrame(rows("PPM", [(10, 1000.0, 0.2)]))), "pocket_facts")
    with pytest.raises(WidthPruneError, match="no criterion was measured on both"):
        same_damage(tidy(pd.DataFrame(WHOLE)), "pocket_facts")


def test_agreement_of_two_criteria_by_hand():
    ones = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([1.0, 2.0, 2.0, 4.0])}
    twos = {"a": torch.tensor([1.0, 3.0, 2.0, 4.0]), "b": torch.tensor([4.0, 3.0, 2.0, 1.0])}
    # Of 2 + 2 neurons removed, layer a shares the first and layer b the third, where a tie decides.
    assert same_neurons(ones, twos, 50) == {
        "pruning_pct": 50, "shared": 0.5, "by_chance": 0.5, "ties": 1, "layers": 2
    }  # fmt: skip
    assert same_neurons(ones, ones, 25)["shared"] == 1


def test_a_disk_without_room_for_a_twin_is_named_and_leaves_none(language_model, tmp_path, full_disk):
    for _ in range(2):  # nothing is taken for a whole model the next time
        with pytest.raises(WidthPruneError, match=f"drawn cannot be written .*{full_disk}.*: make room"):
            random_initialised(language_model, tmp_path / "drawn")
    assert not list(tmp_path.iterdir())
