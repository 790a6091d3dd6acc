"""Slicing: kept indices in, smaller layers out. Knows nothing about scores."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from .layouts import Part
from .sizes import kept_size


def kept_indices(scores: Tensor, size: int) -> Tensor:
    """Indices of the ``size`` highest scores, in ascending order.

    Parameters
    ----------
    scores : Tensor, shape (d_ff,) or (experts, d_ff)
    size : int
        How many neurons to keep, 1 to d_ff.

    Returns
    -------
    Tensor, shape (size,) or (experts, size), int64
        Sorted, so the kept neurons stand in their original order. Of equal scores the one with the
        lower index is kept: the same weights always give the same neurons.
    """
    order = torch.argsort(scores, dim=-1, descending=True, stable=True)
    return order[..., :size].sort(dim=-1).values


def neuron_rows(matrix: Tensor, part: Part) -> list[Tensor]:
    """Views of an input projection with one row per neuron: [gate, up] if it holds both, else itself."""
    rows = matrix if part.axis == 0 else matrix.T
    if part.packing == "alternating":
        return [rows[0::2], rows[1::2]]
    return list(rows.chunk(2)) if part.packing == "halves" else [rows]


def slice_part(tensor: Tensor, part: Part, kept: Tensor) -> Tensor:
    """A contiguous copy of one MLP's or expert's matrix or bias with the neurons ``kept`` only.

    Parameters
    ----------
    tensor : Tensor, shape (n, m) or (n,)
    part : Part
        Which axis counts the neurons, and how.
    kept : Tensor, shape (size,), int64
    """
    size = tensor.shape[part.axis] // 2
    kept = kept.to(tensor.device)
    if part.packing == "halves":
        kept = torch.cat([kept, kept + size])
    elif part.packing == "alternating":
        kept = torch.stack([2 * kept, 2 * kept + 1], dim=1).flatten()
    return tensor.index_select(0, kept) if part.axis == 0 else _columns(tensor, kept)


def _columns(tensor: Tensor, kept: Tensor) -> Tensor:
    if tensor.device.type != "cpu":
        return tensor[:, kept].contiguous()
    # numpy took a third of the processor time that torch's indexing and index_select did.
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    taken = np.take(tensor.view(integers).numpy(), kept.numpy(), axis=1)
    return torch.from_numpy(taken).view(tensor.dtype)


def slice_stacked(tensor: Tensor, part: Part, kept: Tensor) -> Tensor:
    """`slice_part` for every expert of a tensor that holds all: each with its own row of ``kept``."""
    shape = part.pruned_shape(tensor.shape, kept.shape[-1])
    sliced = tensor.new_empty(shape)
    for expert, own in enumerate(kept):
        sliced[expert] = slice_part(tensor[expert], part, own)
    return sliced


def same_neurons(scores: Mapping[str, Tensor], others: Mapping[str, Tensor], pruning_pct: float) -> dict:
    """How far two criteria agree on what to remove from one model.

    Parameters
    ----------
    scores, others : mapping of str to Tensor, shape (d_ff,)
        Scores of every MLP under two criteria, from `widthprune.score_model`.
    pruning_pct : float, in [0, 100)

    Returns
    -------
    dict
        ``shared``: part of the neurons removed by the first that the second removes too, over all
        layers; ``by_chance``: what independent choices would share; ``ties``: layers in which the
        first criterion's scores tie across the cut, so that the index decides; ``layers``.
    """
    removed = shared = neurons = ties = 0
    for name, first in scores.items():
        size = kept_size(len(first), 1, pruning_pct=pruning_pct)
        ones, twos = (torch.ones(len(first), dtype=torch.bool) for _ in range(2))
        ones[kept_indices(first, size)] = False
        twos[kept_indices(others[name], size)] = False
        neurons, removed = neurons + len(first), removed + int(ones.sum())
        shared += int((ones & twos).sum())
        ties += bool(ones.any()) and bool(first[ones].max() == first[~ones].min())
    return {
        "pruning_pct": pruning_pct,
        "shared": shared / removed if removed else 1.0,
        "by_chance": removed / neurons,
        "ties": ties,
        "layers": len(scores),
    }
