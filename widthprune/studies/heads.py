"""Attention heads under AMP (arXiv 2504.21174), for queries that share keys and values: they go by the group.

AMP scores a head by what it writes, the mean over tokens of ||x_th W_h||_1, where x_th is what head h hands to ``o_proj`` and
W_h are its columns of that matrix. With grouped queries one key and value serve several heads, and only all of these can be
cut together. So here a group g takes the place of a head:

    importance of g = mean over tokens t of ||x_tg W_g||_1,

with x_tg and W_g those of all of its heads. Where each head has a key of its own this is AMP's number.

AMP removes the same share of each layer's heads. Models with grouped queries have too few groups a layer for that, so groups
are compared over all layers together. AMP says nothing on how, and what layers write grows with depth; a score is
divided by the sum of its layer's, which keeps AMP's order within a layer. As in the released code each layer keeps a head.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from ..errors import WidthPruneError
from ..pruning import shallow_model

KNOWN = ("llama", "mistral", "qwen2", "gemma3_text")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


def find_groups(model: nn.Module) -> dict[str, int]:
    """Key-value groups of each attention, by its module's name.

    Raises
    ------
    WidthPruneError
        If the model is of another kind than those whose heads are known to be laid out like this.
    """
    config = model.config.get_text_config()
    if config.model_type not in KNOWN:
        raise WidthPruneError(
            f"heads are known in models of the kinds {', '.join(KNOWN)} here, got {config.model_type}: "
            "choose a model of one of these kinds"
        )
    return {
        name: config.num_key_value_heads
        for name, module in model.named_modules()
        if all(hasattr(module, projection) for projection in PROJECTIONS)
    }


def written(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """What each group writes at each token, as its L1 norm: (tokens, groups) from x (tokens, n) and ``o_proj`` (d_model, n)."""
    parts = zip(x.chunk(groups, dim=1), weight.chunk(groups, dim=1), strict=True)
    return torch.stack([torch.linalg.vector_norm(own @ columns.T, 1, dim=1) for own, columns in parts], dim=1)


@torch.no_grad()
def score_groups(model: nn.Module, sequences: Sequence[Tensor]) -> dict[str, Tensor]:
    """AMP's importance of every group of every attention.

    Parameters
    ----------
    model : PreTrainedModel
        Left as it was.
    sequences : sequence of Tensor, shape (tokens,), int64
        From `Calibration.token_sequences`.

    Returns
    -------
    dict of str to Tensor, shape (groups,), float64
        By the attention's name.

    Raises
    ------
    WidthPruneError
        As `find_groups`.
    """
    found = find_groups(model)
    sums = {name: torch.zeros(groups, dtype=torch.float64) for name, groups in found.items()}

    def listener(name):
        def add(module, inputs):
            x = inputs[0].flatten(0, -2).float()
            sums[name] += written(x, module.weight.float(), found[name]).sum(dim=0).double().cpu()

        return add

    with ExitStack() as stack:
        for name in found:
            output = model.get_submodule(name).o_proj
            stack.enter_context(output.register_forward_pre_hook(listener(name)))
        for tokens in sequences:
            model(tokens[None].to(model.device), use_cache=False, logits_to_keep=1)
    return {name: own / sum(map(len, sequences)) for name, own in sums.items()}


def lowest_groups(scores: Mapping[str, Tensor], pct: float) -> dict[str, list[int]]:
    """The groups of the lowest share of their layer's scores, as many as ``pct`` percent of all round to.

    Raises
    ------
    WidthPruneError
        If so many are not to be had: each layer keeps one.
    """
    total = sum(map(len, scores.values()))
    count, most = round(total * pct / 100), total - len(scores)
    if count > most:
        raise WidthPruneError(
            f"{pct:g}% of {total} key-value groups are {count}, and each layer keeps one: give at most {100 * most / total:g}%"
        )
    shares = [
        (float(share), name, g) for name, own in scores.items() for g, share in enumerate(own / own.sum())
    ]
    removed = {name: [] for name in scores}
    for _, name, group in sorted(shares):
        if sum(map(len, removed.values())) < count and len(removed[name]) < len(scores[name]) - 1:
            removed[name].append(group)
    return {name: sorted(own) for name, own in removed.items()}


def masked(weight: Tensor, groups: int, removed: Sequence[int]) -> Tensor:
    """An ``o_proj`` matrix that does not read some groups: a copy with their columns at zero."""
    weight = weight.detach().clone()
    for group in removed:
        weight.chunk(groups, dim=1)[group].zero_()
    return weight


def without_groups(model: nn.Module, removed: Mapping[str, Sequence[int]]) -> nn.Module:
    """The model without some groups, which are masked, not cut: the same logits.

    Parameters
    ----------
    model : PreTrainedModel
        Left as it was; the result shares with it every tensor but the ``o_proj`` matrices that change.
    removed : mapping of str to sequence of int
        Groups to remove, by the attention's name; from `lowest_groups`.

    Returns
    -------
    PreTrainedModel
    """
    found = find_groups(model)
    model = shallow_model(model)
    for name, own in removed.items():
        if own:
            output = model.get_submodule(name).o_proj
            output.weight = nn.Parameter(masked(output.weight, found[name], own))
    return model


def parameters_of(model: nn.Module, removed: Mapping[str, Sequence[int]]) -> int:
    """Parameters that go when groups are cut: rows of q, k and v with their biases, and columns of o."""
    found, gone = find_groups(model), 0
    for name, own in removed.items():
        module = model.get_submodule(name)
        rows = sum(p.numel() for part in PROJECTIONS[:3] for p in getattr(module, part).parameters())
        gone += (rows + module.o_proj.weight.numel()) // found[name] * len(own)
    return gone
