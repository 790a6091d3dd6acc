"""Masking: held at zero is cut, held at what it gives is nothing, and ways remove what they say."""

import numpy as np
import pytest
import torch
from transformers import ArceeConfig, AutoModelForCausalLM, LlamaConfig

from widthprune import WidthPruneError
from widthprune.pruning import cut_model
from widthprune.studies.masking import WAYS, complement, held, lowest, means, without

SIZES = dict(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    bos_token_id=None,
    eos_token_id=None,
)
ROWS = np.random.default_rng(0).integers(50, size=(3, 7))


def made(config=LlamaConfig):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config(**SIZES, intermediate_size=24)).eval()


def logits(model):
    with torch.inference_mode():
        return model(input_ids=torch.as_tensor(ROWS)).logits


def test_masking_equals_cutting():
    model = made()
    gone = lowest(model, "PPM", 40)
    with without(model, "PAIRED", 40):
        masked = logits(model)
    torch.testing.assert_close(masked, logits(cut_model(model, complement(model, gone))))
    # In either half alone, as either factor of a neuron takes it to zero.
    for half in ("gate", "up"):
        with held(model, half, gone):
            torch.testing.assert_close(masked, logits(model))
    assert not torch.allclose(masked, logits(model))


def test_after_the_block_nothing_is_held():
    model = made()
    whole = logits(model)
    with pytest.raises(RuntimeError), without(model, "UNPAIRED", 50):
        raise RuntimeError
    assert torch.equal(whole, logits(model))


def test_unpaired_rows_are_chosen_apart():
    model = made()
    gates, ups = lowest(model, "PPM-GATE", 30), lowest(model, "PPM-UP", 30)
    with held(model, "gate", gates), held(model, "up", ups):
        expected = logits(model)
    with without(model, "UNPAIRED", 30):
        assert torch.equal(logits(model), expected)
    union = {name: torch.unique(torch.cat([gates[name], ups[name]])) for name in gates}
    torch.testing.assert_close(expected, logits(cut_model(model, complement(model, union))))


def test_means_are_those_of_the_half():
    model = made()
    mlp, seen = model.model.layers[0].mlp, []
    mlp.up_proj.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits(model)
    torch.testing.assert_close(means(model, "up", ROWS)["model.layers.0.mlp"], seen[0].mean((0, 1)))


def test_a_gate_held_at_its_mean_leaves_a_linear_neuron():
    model = made()
    mean = {half: means(model, half, ROWS) for half in ("gate", "up")}
    mlp, x = model.model.layers[0].mlp, torch.randn(2, 16)
    with torch.inference_mode(), without(model, "GATE-HELD", 99, mean=mean):
        torch.testing.assert_close(mlp(x) + mlp(-x), torch.zeros(2, 16), atol=2e-3, rtol=0)
        constant = mlp.act_fn(mean["gate"]["model.layers.0.mlp"])
        gone = lowest(model, "PPM", 99)["model.layers.0.mlp"]
        linear = (mlp.up_proj(x) * constant)[:, gone] @ mlp.down_proj.weight[:, gone].T
        kept = complement(model, lowest(model, "PPM", 99))["model.layers.0.mlp"]
        rest = (mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x))[:, kept] @ mlp.down_proj.weight[:, kept].T
        torch.testing.assert_close(mlp(x), linear + rest)


def test_lots_differ_by_draw_and_remove_as_many():
    model = made()
    one, other = (lowest(model, "RANDOM", 50, seed) for seed in (1, 2))
    name = "model.layers.0.mlp"
    assert len(one[name]) == len(other[name]) == 12 and not torch.equal(one[name], other[name])


def test_bad_input_is_one_line():
    model = made()
    for ask, says in (
        (lambda: without(model, "BOTH", 10), f"one of {', '.join(WAYS)}"),
        (
            lambda: held(model, "down", {"model.layers.0.mlp": torch.tensor([2])}),
            "half must be one of gate, up, got 'down'",
        ),
        (lambda: without(made(ArceeConfig), "PAIRED", 10), "no gate projection"),
    ):
        with pytest.raises(WidthPruneError, match=says) as error, ask():
            pass
        assert "\n" not in str(error.value)
