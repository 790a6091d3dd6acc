"""Heads by the group: scored as by hand, masked as if cut, and counted as what a smaller model has."""

import copy

import pytest
import torch
from conftest import tiny_model

from widthprune.errors import WidthPruneError
from widthprune.studies.heads import (
    find_groups,
    lowest_groups,
    masked,
    parameters_of,
    score_groups,
    without_groups,
    written,
)

TOKENS = [torch.randint(0, 97, (n,), generator=torch.Generator().manual_seed(n)) for n in (20, 9)]
KINDS = ("llama", "llama-attention-bias", "qwen2", "mistral", "gemma3")
HEAD, GROUPS, QUERIES = 8, 2, 2  # numbers of a head, groups, and query heads of each in the tiny models


@pytest.fixture(params=KINDS)
def model(request):
    kind, _, bias = request.param.partition("-")
    return tiny_model(kind, **(dict(attention_bias=True) if bias else {}))


@torch.no_grad()
def logits(model, tokens=TOKENS[0]):
    return model(input_ids=tokens[None], use_cache=False).logits[0]


def attentions(model):
    return {
        f"model.layers.{place}.self_attn": layer.self_attn for place, layer in enumerate(model.model.layers)
    }


@torch.no_grad()
def cut(model, removed):
    """A copy whose groups are deleted: rows of q, k and v with their biases, and columns of o."""
    model = copy.deepcopy(model)
    for name, module in attentions(model).items():
        kept = [group for group in range(GROUPS) if group not in removed.get(name, ())]
        for part, heads in (("q_proj", QUERIES), ("k_proj", 1), ("v_proj", 1)):
            projection = getattr(module, part)
            for key, tensor in list(projection.named_parameters()):
                rows = [tensor[group * heads * HEAD : (group + 1) * heads * HEAD] for group in kept]
                setattr(projection, key, torch.nn.Parameter(torch.cat(rows)))
        size = QUERIES * HEAD
        columns = [module.o_proj.weight[:, group * size : (group + 1) * size] for group in kept]
        module.o_proj.weight = torch.nn.Parameter(torch.cat(columns, dim=1))
    return model


def test_a_masked_model_is_one_whose_groups_are_cut(model):
    removed = {
        "model.layers.0.self_attn": [1],
        "model.layers.1.self_attn": [],
        "model.layers.2.self_attn": [0],
    }
    before = logits(model)
    found, small = without_groups(model, removed), cut(model, removed)
    torch.testing.assert_close(logits(found), logits(small), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits(found), before, atol=1e-3)
    counted = [sum(p.numel() for p in own.parameters()) for own in (model, small)]
    assert parameters_of(model, removed) == counted[0] - counted[1] > 0
    # The model stays as it was, and shares with the result what no group has.
    assert torch.equal(logits(model), before)
    ours = dict(model.named_parameters())
    other = {name for name, p in found.named_parameters() if p is not ours[name]}
    assert other == {f"model.layers.{place}.self_attn.o_proj.weight" for place in (0, 2)}


def test_without_any_group_removed_it_is_the_model(model):
    removed = lowest_groups(score_groups(model, TOKENS), 0)
    assert set(removed) == set(attentions(model)) == set(find_groups(model)) and not any(removed.values())
    assert torch.equal(logits(without_groups(model, removed)), logits(model))
    assert parameters_of(model, removed) == 0


def test_scores_by_hand():
    x = torch.tensor([[1.0, -2.0, 0.0, 1.0], [0.0, 1.0, 3.0, 0.0]])
    weight = torch.tensor([[1.0, 0.0, 2.0, -1.0], [1.0, 1.0, 0.0, 1.0]])
    # Group 0 writes (1, -1) and (0, 1), group 1 (-1, 1) and (6, 0).
    assert written(x, weight, 2).tolist() == [[2.0, 2.0], [1.0, 6.0]]
    # Each head by itself, as AMP scores it.
    assert written(x, weight, 4).tolist() == [[2.0, 2.0, 0.0, 2.0], [0.0, 1.0, 6.0, 0.0]]
    assert masked(weight, 2, [1]).tolist() == [[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
    assert weight[0, 2] == 2


def test_scores_are_means_over_tokens_of_what_removing_a_group_takes(model):
    """Of the first layer, whose input is the same without the group: the L1 norm of the output's change."""

    @torch.no_grad()
    def output(model, tokens):
        found = []
        projection = model.model.layers[0].self_attn.o_proj
        handle = projection.register_forward_hook(lambda module, inputs, out: found.append(out[0]))
        logits(model, tokens)
        handle.remove()
        return found[0]

    name = "model.layers.0.self_attn"
    scores = score_groups(model, TOKENS)
    for group in range(GROUPS):
        without = without_groups(model, {name: [group]})
        taken = torch.cat([output(model, tokens) - output(without, tokens) for tokens in TOKENS])
        assert float(scores[name][group]) == pytest.approx(float(taken.abs().sum(dim=1).mean()), rel=1e-4)


SCORES = {"deep": torch.tensor([90.0, 10.0, 100.0]), "flat": torch.tensor([0.4, 0.3, 0.3])}


@pytest.mark.parametrize(
    ("pct", "removed"),
    [
        (0, {"deep": [], "flat": []}),
        (8, {"deep": [], "flat": []}),  # half a group rounds to none
        (10, {"deep": [1], "flat": []}),  # 5% of its layer, though above all of the other
        (35, {"deep": [1], "flat": [1]}),
        (50, {"deep": [1], "flat": [1, 2]}),
        (60, {"deep": [0, 1], "flat": [1, 2]}),  # "flat" keeps its last
    ],
)
def test_groups_of_the_lowest_share_go_first(pct, removed):
    assert lowest_groups(SCORES, pct) == removed


@pytest.mark.parametrize("groups", [[3, 3], [1, 1], [2] * 3, [3] * 30, [8] * 32, [5, 2]])
def test_a_layer_keeps_a_group_and_the_largest_percentage_is_named(groups):
    scores = {str(layer): torch.ones(count) for layer, count in enumerate(groups)}
    with pytest.raises(WidthPruneError, match="each layer keeps one: give at most .*%$") as refused:
        lowest_groups(scores, 99)
    assert "\n" not in str(refused.value)
    removed = lowest_groups(scores, float(str(refused.value).split()[-1].rstrip("%")))
    assert [len(own) + 1 for own in removed.values()] == groups


def test_models_of_other_kinds_are_refused():
    with pytest.raises(WidthPruneError, match="kinds llama, .* here, got gemma: choose a model of one"):
        find_groups(tiny_model("gemma"))
