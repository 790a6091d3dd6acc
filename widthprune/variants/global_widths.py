"""Global widths: neurons compete across layers, so that layers end with sizes of their own."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

# Why a mixture is refused.
STACKED = "whose experts share a size, and global widths need MLPs without experts: prune it without them"


def global_sizes(scores: Mapping[str, Tensor], total: int, multiple_of: int = 1) -> dict[str, int]:
    """How many neurons each layer keeps when the best ``total`` of all layers are kept.

    A layer's scores are divided by their mean, because criteria scale with a layer's weights or
    activations, which grow from layer to layer: undivided, whole layers would be lost for their scale
    alone. After division every layer averages 1, and a layer gives up neurons to the extent that they
    fall short of what is usual in it. (FLAP subtracts the mean and divides by the standard deviation
    instead, arXiv 2312.11983; that takes spread away, too, and spread is what tells layers apart.)

    Parameters
    ----------
    scores : mapping of str to Tensor, shape (d_ff,)
        Non-negative scores of every layer, from `score_model`; d_ff may differ from layer to layer.
    total : int
        Neurons to keep in the whole model: what a uniform width would keep.
    multiple_of : int
        Neurons move between layers in blocks of this many, a block being worth its mean; every layer
        keeps at least one. A layer's size is a multiple, or d_ff itself.

    Returns
    -------
    dict of str to int
        Their sum is ``total``, or less than one block below it.

    Examples
    --------
    >>> global_sizes({"a": torch.tensor([1.0, 1, 1]), "b": torch.tensor([0.1, 0.1, 2.0])}, 4)
    {'a': 3, 'b': 1}
    """
    worth, lengths, owners = [], [], []
    for layer, own in enumerate(scores.values()):
        own = own.double().cpu().sort(descending=True).values
        relative = own / own.mean().clamp(min=torch.finfo(torch.float64).tiny)
        padding = -len(own) % multiple_of
        length = torch.full(((len(own) + padding) // multiple_of,), multiple_of)
        length[-1] -= padding
        value = F.pad(relative, (0, padding)).view(-1, multiple_of).sum(dim=1) / length
        value[0] = torch.inf
        worth, lengths = [*worth, value], [*lengths, length]
        owners.append(torch.full_like(length, layer))
    worth, lengths, owners = torch.cat(worth), torch.cat(lengths), torch.cat(owners)
    order = torch.argsort(worth, descending=True, stable=True)
    kept = order[lengths[order].cumsum(dim=0) <= total]
    sizes = torch.zeros(len(scores), dtype=torch.long).index_add(0, owners[kept], lengths[kept])
    return dict(zip(scores, sizes.tolist(), strict=True))
