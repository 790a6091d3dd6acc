"""Bias compensation: what it adds, that it reloads, and where it is refused."""

import pytest
import torch
from conftest import logits, tiny_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from widthprune import WidthPruneError, load_model, prune_model
from widthprune.calibration import Calibration, calibrate
from widthprune.variants.compensation import mean_contribution

TEXT = Calibration(["the question and the answer", "of the test", "the test of the answer and the question"])


@pytest.fixture(scope="module")
def loaded(language_model):
    model, tokenizer = load_model(language_model)
    return model, tokenizer, calibrate(model, tokenizer, TEXT)


def test_contribution_by_hand():
    columns = torch.tensor([[1.0, 2], [3, 4], [5, -6]])
    kept = torch.tensor([1])
    found = mean_contribution(columns, torch.tensor([0.5, 9, -1], dtype=torch.float64), kept)
    assert found.tolist() == [0.5 - 5, 1 + 6] and found.dtype == torch.float32
    assert mean_contribution(columns, torch.ones(3), torch.arange(3)).tolist() == [0, 0]


def mean_output(model, tokenizer):
    """Mean over the calibration text of what the first MLP, whose input pruning leaves alone, puts out."""
    outputs = []
    handle = model.model.layers[0].mlp.register_forward_hook(lambda _, inputs, out: outputs.append(out[0]))
    with torch.no_grad():
        for sequence in TEXT.token_sequences(tokenizer):
            model(sequence[None])
    handle.remove()
    return torch.cat(outputs).mean(dim=0)


def test_the_mean_output_is_that_of_the_unpruned_model(loaded):
    model, tokenizer, activations = loaded
    pruned = {
        c: prune_model(model, c, pruning_pct=50, activations=activations) for c in ("FLAP", "FLAP-BIAS")
    }
    whole = mean_output(model, tokenizer)
    torch.testing.assert_close(mean_output(pruned["FLAP-BIAS"], tokenizer), whole)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(mean_output(pruned["FLAP"], tokenizer), whole)


@pytest.mark.parametrize("global_widths", [False, True])
def test_flap_and_flap_bias_remove_the_same_neurons(loaded, global_widths):
    model, _, activations = loaded
    options = dict(pruning_pct=30, activations=activations, global_widths=global_widths)
    plain, biased = (prune_model(model, c, **options) for c in ("FLAP", "FLAP-BIAS"))
    weights = dict(plain.named_parameters())
    for name, parameter in biased.named_parameters():
        if name in weights:
            assert torch.equal(parameter, weights[name])
        else:
            assert name.endswith("bias") and bool((parameter != 0).any()) == ("down_proj" in name)


def test_a_model_without_biases_gets_them_and_loads_again(loaded, tmp_path):
    model, _, activations = loaded
    pruned = prune_model(model, "FLAP-BIAS", pruning_pct=30, activations=activations)
    assert pruned.config.mlp_bias and not model.config.mlp_bias
    assert model.model.layers[0].mlp.down_proj.bias is None
    pruned.save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(logits(reloaded), logits(pruned))


def test_a_bias_that_is_there_is_added_to(loaded, tmp_path):
    _, tokenizer, _ = loaded
    torch.manual_seed(0)
    config = GPT2Config(n_embd=32, n_head=4, n_layer=2, vocab_size=300, n_positions=64)
    model = GPT2LMHeadModel(config).eval()
    activations = calibrate(model, tokenizer, TEXT)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    pruned = prune_model(model, "FLAP-BIAS", pruning_pct=40, activations=activations)
    assert not torch.equal(pruned.transformer.h[0].mlp.c_proj.bias, before["transformer.h.0.mlp.c_proj.bias"])
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
    pruned.save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(logits(reloaded), logits(pruned))


@pytest.mark.parametrize("family", ["qwen2", "gemma3"])
def test_a_family_that_cannot_declare_the_bias_is_refused(loaded, family):
    _, tokenizer, _ = loaded
    model = tiny_model(family, vocab_size=300)
    activations = calibrate(model, tokenizer, TEXT)
    with pytest.raises(WidthPruneError, match=f"the config of {type(model).__name__} has no mlp_bias"):
        prune_model(model, "FLAP-BIAS", pruning_pct=30, activations=activations, inplace=True)
    assert model.config.intermediate_size == 88


def test_in_place(loaded, language_model):
    _, _, activations = loaded
    model, _ = load_model(language_model)
    expected = prune_model(model, "FLAP-BIAS", pruning_pct=30, activations=activations)
    assert prune_model(model, "FLAP-BIAS", pruning_pct=30, activations=activations, inplace=True) is model
    assert torch.equal(logits(model), logits(expected))


def test_without_activations(llama):
    with pytest.raises(WidthPruneError, match=r"FLAP-BIAS looks at data: give activations=calibrate\(model"):
        prune_model(llama, "FLAP-BIAS", pruning_pct=30)
