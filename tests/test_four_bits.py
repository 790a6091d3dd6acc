"""Weights of four bits are GGUF's own, and what changes is counted by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_model
from families import byte_tokenizer

from widthprune import WidthPruneError, prune_model, score_model
from widthprune.studies.four_bits import COLUMNS, changed_rows, in_four_bits, study_four_bits, to_four_bits
from widthprune.studies.masking import lowest
from widthprune.studies.packaged_figures import four_bits_table


@pytest.fixture(scope="module")
def model():
    sizes = dict(hidden_size=64, intermediate_size=96)
    return tiny_model(vocab_size=300, max_position_embeddings=2048, **sizes)


def test_sixteen_steps_of_one_scale():
    row = torch.linspace(-8, 7, 16).repeat(2)[None] * 0.5  # what sixteen steps hold, twice
    assert torch.equal(to_four_bits(row), row)
    weight = torch.randn(5, 64)
    coarse = to_four_bits(weight)
    for block, own in zip(weight.view(-1, 32), coarse.view(-1, 32), strict=True):
        # One end of the block is held to the scale's eleven bits, and no other weight is off by more than a step.
        scale = float(block[block.abs().argmax()]) / -8
        assert len(set(own.tolist())) <= 16 and (own / scale - (own / scale).round()).abs().max() < 1e-2
        assert (own - block).abs().max() <= abs(scale) * 1.01
    assert to_four_bits(weight.bfloat16()).dtype == torch.bfloat16


def test_every_linear_layer_but_the_head(model):
    coarse = in_four_bits(model)
    changed = {
        name for name, own in model.named_parameters() if not torch.equal(own, coarse.get_parameter(name))
    }
    linear = {f"{name}.weight" for name, own in model.named_modules() if isinstance(own, torch.nn.Linear)}
    assert changed == linear - {"lm_head.weight"} and any(".mlp." in name for name in changed)
    with pytest.raises(WidthPruneError, match="rows of 48 weights have no blocks of 32"):
        in_four_bits(tiny_model(hidden_size=48))


def test_what_changes_is_counted(model):
    coarse = in_four_bits(model)
    (row,) = changed_rows(model, coarse, ["PPM"], [20.0])
    expected = [
        len(set(own.tolist()) - set(lowest(coarse, "PPM", 20.0)[name].tolist())) / len(own)
        for name, own in lowest(model, "PPM", 20.0).items()
    ]
    assert row["value"] == pytest.approx(np.mean(expected)) and row["n"] == len(expected)
    (same,) = changed_rows(model, model, ["PPM"], [20.0])
    assert same["value"] == 0


def test_a_study_prunes_each_weights_by_each_choice(model, monkeypatch):
    seen = []

    def scored(own, *rest):
        seen.append(own)
        return [dict(task="t", metric="m", value=0.5, stderr=0.1, n=3)]

    monkeypatch.setattr("widthprune.studies.four_bits.scores", scored)
    table = study_four_bits(model, None, [], criteria=["MAW"], pcts=[10.0], scored_pcts=[25.0])
    assert list(table) == list(COLUMNS) and table["metric"].tolist() == ["changed"] + ["m"] * 5
    ways = table[table["metric"] == "m"][["weights", "chosen_by", "criterion"]].agg(" ".join, axis=1)
    assert ways.tolist() == [
        *("stored stored none", "four bits four bits none"),
        *("stored stored MAW", "four bits four bits MAW", "stored four bits MAW"),
    ]
    coarse = in_four_bits(model)
    mixed = prune_model(model, pruning_pct=25, scores=score_model(coarse, "MAW"))
    for name, own in mixed.named_parameters():
        assert torch.equal(own, seen[-1].get_parameter(name))


def test_benchmarks_are_measured(model):
    table = study_four_bits(
        model, byte_tokenizer(), ["pocket_facts"], criteria=["PPM"], pcts=[40.0], scored_pcts=[40.0], limit=4
    )
    measured = table[table["task"] == "pocket_facts"]
    shown = four_bits_table(table, "pocket_facts")
    assert shown.index.tolist() == [("PPM", "40%"), ("none", "0%")] and shown.shape == (2, 3)
    assert four_bits_table(table).loc["PPM", "40%"].endswith("%")
    assert len(measured) >= 5 and set(measured["n"]) == {4} and not pd.isna(measured["value"]).any()
