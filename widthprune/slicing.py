"""Slicing: kept indices in, smaller layers out. Knows nothing about scores."""

import torch
from torch import Tensor, nn

from .glu import GLU


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
    data = parameter.detach().index_select(dim, kept.to(parameter.device))
    return nn.Parameter(data, requires_grad=parameter.requires_grad)
