"""Slicing: kept indices in, smaller layers out. Knows nothing about scores."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .glu import GLU
from .sizes import kept_size


def kept_indices(scores: Tensor, size: int) -> Tensor:
    """Indices of the ``size`` highest scores, in ascending order.

    Parameters
    ----------
    scores : Tensor, shape (d_ff,)
    size : int
        How many neurons to keep, 1 to d_ff.

    Returns
    -------
    Tensor, shape (size,), int64
        Sorted, so the kept neurons stand in their original order. Of equal scores the one with the
        lower index is kept: the same weights always give the same neurons.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    return order[:size].sort().values


def slice_rows(linear: nn.Linear, kept: Tensor) -> None:
    """Keep the output neurons ``kept`` of a linear layer: weight rows, bias, ``out_features``."""
    linear.weight = _sliced(linear.weight, 0, kept)
    if linear.bias is not None:
        linear.bias = _sliced(linear.bias, 0, kept)
    linear.out_features = len(kept)


def slice_columns(linear: nn.Linear, kept: Tensor) -> None:
    """Keep the inputs ``kept`` of a linear layer: weight columns, ``in_features``. The bias is whole."""
    linear.weight = _sliced(linear.weight, 1, kept)
    linear.in_features = len(kept)


def slice_glu(glu: GLU, kept: Tensor) -> None:
    """Keep the neurons ``kept`` of one GLU MLP: pairs of gate and up rows, matching down columns."""
    slice_rows(glu.gate, kept)
    slice_rows(glu.up, kept)
    slice_columns(glu.down, kept)


def _sliced(parameter: nn.Parameter, dim: int, kept: Tensor) -> nn.Parameter:
    # A new Parameter: the old one may be shared with the unpruned model and stays as it is.
    data = select(parameter.detach(), dim, kept.to(parameter.device))
    return nn.Parameter(data, requires_grad=parameter.requires_grad)


def select(weight: Tensor, dim: int, kept: Tensor) -> Tensor:
    """A contiguous copy of the rows (``dim`` 0) or columns (``dim`` 1) ``kept`` of a weight or bias."""
    # Columns by indexing: on a CPU, index_select took twice as long on a (2048, 8192) bfloat16 matrix.
    return weight.index_select(0, kept) if dim == 0 else weight[:, kept].contiguous()


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
