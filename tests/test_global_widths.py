"""Widths that differ from layer to layer: the sizes, the model, and what can be saved."""

import copy

import pytest
import torch
from conftest import logits, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Gemma3nTextConfig, MixtralConfig

from widthprune import WidthPruneError, prune_model, score_model
from widthprune.layouts import find_layouts
from widthprune.mlps import find_mlps
from widthprune.scores import kept_indices
from widthprune.variants.global_widths import global_sizes

GEMMA3N = dict(
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    vocab_size=97,
    vocab_size_per_layer_input=97,
    hidden_size_per_layer_input=8,
    laurel_rank=4,
    num_kv_shared_layers=0,
    sliding_window=8,
)


def gemma3n(sizes):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(Gemma3nTextConfig(**GEMMA3N, intermediate_size=sizes)).eval()


def test_sizes_by_hand():
    # Means 2 and 5: relative to them 3/2, 1/2, 1 and 9/5, 1/5, 1. The best four leave out 1/5 and 1/2.
    scores = {"a": torch.tensor([3.0, 1, 2]), "b": torch.tensor([9.0, 1, 5])}
    assert global_sizes(scores, 4) == {"a": 2, "b": 2}
    assert global_sizes(scores, 5) == {"a": 3, "b": 2}
    # In blocks of two: of a and b one block each is certain, then a's last (1/2) beats b's (1/5).
    assert global_sizes(scores, 5, multiple_of=2) == {"a": 3, "b": 2}


def test_every_layer_keeps_a_block():
    flat, peaked = torch.ones(8), torch.tensor([100.0] + [1e-6] * 7)
    assert global_sizes({"flat": flat, "peaked": peaked}, 8) == {"flat": 7, "peaked": 1}
    assert global_sizes({"flat": flat, "peaked": peaked}, 8, multiple_of=4) == {"flat": 4, "peaked": 4}
    assert global_sizes({"zero": torch.zeros(4), "one": torch.ones(4)}, 5) == {"zero": 1, "one": 4}


def test_scores_below_zero_are_refused():
    model = tiny_model()
    with pytest.raises(WidthPruneError, match="those of PPM-REVERSED are below zero"):
        prune_model(model, "PPM-REVERSED", pruning_pct=30, global_widths=True)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    widths=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    multiple_of=st.integers(1, 9),
    part=st.floats(0, 1),
)
def test_sizes_add_up_and_do_not_depend_on_scale(seed, widths, multiple_of, part):
    generator = torch.Generator().manual_seed(seed)
    scores = {str(i): torch.rand(n, generator=generator) for i, n in enumerate(widths)}
    least = sum(min(multiple_of, n) for n in widths)
    total = least + int(part * (sum(widths) - least))
    sizes = global_sizes(scores, total, multiple_of)
    assert total - multiple_of < sum(sizes.values()) <= total
    for size, n in zip(sizes.values(), widths, strict=True):
        assert size == n or (size >= 1 and size % multiple_of == 0)
    scaled = {name: score * 2.0 ** (20 * int(name)) for name, score in scores.items()}
    assert global_sizes(scaled, total, multiple_of) == sizes
    if multiple_of == 1:
        # No exchange is better: whatever was kept beyond a layer's one beats all that was removed.
        relative = [
            score.double().sort(descending=True).values / score.double().mean() for score in scores.values()
        ]
        kept = torch.cat([own[1:size] for own, size in zip(relative, sizes.values(), strict=True)])
        removed = torch.cat([own[size:] for own, size in zip(relative, sizes.values(), strict=True)])
        assert not len(kept) or not len(removed) or kept.min() >= removed.max()


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_pruned_equals_masked_in_as_many_parameters(family):
    model = tiny_model(family)
    scores = score_model(model, "L2")
    # Layers of unlike spread, so that their sizes differ by much.
    for i, name in enumerate(scores):
        scores[name] = scores[name] ** (1 + 9 * i)
    pruned = prune_model(model, pruning_pct=40, scores=scores, global_widths=True, multiple_of=4)
    uniform = prune_model(model, pruning_pct=40, scores=scores, multiple_of=4)
    sizes = sizes_of(pruned)
    assert sizes == global_sizes(scores, 3 * uniform.config.intermediate_size, 4)
    assert max(sizes.values()) - min(sizes.values()) > 20
    assert pruned.config.intermediate_size == list(sizes.values())
    assert sum(p.numel() for p in pruned.parameters()) == sum(p.numel() for p in uniform.parameters())
    torch.testing.assert_close(logits(pruned), logits(masked(model, scores, sizes)))
    assert model.config.intermediate_size == 88


def masked(model, scores, sizes):
    """The full-size model in which a pruned neuron's activation meets weights of zero."""
    model = copy.deepcopy(model)
    for mlp in find_mlps(model):
        gone = torch.ones(mlp.size, dtype=torch.bool)
        gone[kept_indices(scores[mlp.name], sizes[mlp.name])] = False
        model.get_submodule(mlp.output.path).weight.data[:, gone] = 0
    return model


def sizes_of(model):
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    return {m.name: m.size for m in find_layouts(shapes, model.config.model_type, 32, "model")}


def test_a_family_without_sizes_per_layer_refuses_to_be_saved(llama, tmp_path):
    pruned = prune_model(llama, pruning_pct=40, global_widths=True)
    with pytest.raises(
        WidthPruneError, match="LlamaForCausalLM with a width of its own in each layer"
    ) as error:
        pruned.save_pretrained(tmp_path / "out")
    assert "LlamaConfig has one intermediate_size for all layers" in str(error.value)
    assert not (tmp_path / "out").exists()
    prune_model(llama, pruning_pct=40).save_pretrained(tmp_path / "out")


@pytest.mark.parametrize("sizes", [88, [96, 64, 80]])
def test_gemma3n_is_saved_and_loads_again(sizes, tmp_path):
    model = gemma3n(sizes)
    pruned = prune_model(model, "L2", pruning_pct=30, global_widths=True, multiple_of=4)
    own = [mlp.size for mlp in find_mlps(pruned)]
    assert pruned.config.intermediate_size == own and len(set(own)) > 1
    uniform = prune_model(model, "L2", pruning_pct=30, multiple_of=4)
    spare = sum(uniform.config.intermediate_size) - sum(own)
    assert 0 <= spare < 4
    pruned.save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(logits(reloaded), logits(pruned))
    again = prune_model(reloaded, "L2", pruning_pct=30, global_widths=True)
    assert sum(mlp.size for mlp in find_mlps(again)) < sum(own)


def test_in_place(llama):
    expected = logits(prune_model(llama, pruning_pct=40, global_widths=True))
    assert prune_model(llama, pruning_pct=40, global_widths=True, inplace=True) is llama
    assert torch.equal(logits(llama), expected)


def test_experts_are_refused():
    sizes = dict(hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4)
    config = MixtralConfig(**sizes, num_key_value_heads=2, vocab_size=97, num_local_experts=4)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(WidthPruneError, match="is a mixture of experts, .* global widths need MLPs without"):
        prune_model(model, pruning_pct=20, global_widths=True)
