"""Sizes: from a pruning percentage or an expansion ratio to a whole number of neurons, and back."""

import math
from numbers import Integral, Real

from .errors import WidthPruneError


def expansion_ratio(intermediate_size: int, hidden_size: int) -> float:
    """Neurons in the MLP per dimension of the residual stream: d_ff / d_model (paper, section 3.1)."""
    return intermediate_size / hidden_size


def kept_size(
    intermediate_size: int,
    hidden_size: int,
    *,
    pruning_pct: float | None = None,
    expansion_ratio: float | None = None,
    size: int | None = None,
    multiple_of: int = 1,
) -> int:
    """Neurons kept per MLP, given how much to prune, which ratio to reach, or the size itself.

    Percentages and ratios never remove more than was asked for: a fractional neuron is kept, as in the paper,
    whose sizes are ``size - int(size * pct / 100)``. So 40% of 8192 and a ratio of 2.4 with hidden
    size 2048 (4915.2 neurons) both keep 4916.

    Parameters
    ----------
    intermediate_size, hidden_size : int
        d_ff and d_model before pruning.
    pruning_pct : float, in [0, 100)
        Percentage of neurons to remove. Give this, or ``expansion_ratio``, or ``size``.
    expansion_ratio : float, in (0, intermediate_size / hidden_size]
        Ratio d_ff / d_model to reach.
    size : int, in [1, intermediate_size]
        Neurons to keep, where a sweep or a result names them.
    multiple_of : int
        Round the kept size up to a multiple of this, but never above ``intermediate_size``.

    Raises
    ------
    WidthPruneError
        If not exactly one of the targets is given, or a value is out of its range.

    Examples
    --------
    >>> kept_size(8192, 2048, pruning_pct=40)
    4916
    >>> kept_size(8192, 2048, expansion_ratio=2.4)
    4916
    >>> kept_size(8192, 2048, pruning_pct=40, multiple_of=64)
    4928
    """
    absent = (pruning_pct, expansion_ratio, size).count(None)
    if absent != 2:
        given = "neither" if absent == 3 else "both" if size is None else "a size beside one"
        raise WidthPruneError(f"give pruning_pct or expansion_ratio, exactly one of them; got {given}")
    if isinstance(multiple_of, bool) or not isinstance(multiple_of, int) or multiple_of < 1:
        raise WidthPruneError(f"multiple_of must be a whole number of at least 1, got {multiple_of!r}")
    for name, target in {"pruning_pct": pruning_pct, "expansion_ratio": expansion_ratio}.items():
        if target is not None and not isinstance(target, Real):
            # The letters of a list that came as text, from a loop of a notebook's.
            hint = ": papermill takes a list with -y, not with -p" if isinstance(target, str) else ""
            raise WidthPruneError(f"{name} must be a number, got {target!r}{hint}")
    if pruning_pct is not None:
        if not 0 <= pruning_pct < 100:
            raise WidthPruneError(f"pruning_pct must be in [0, 100), got {pruning_pct}")
        kept = intermediate_size - int(intermediate_size * pruning_pct / 100)
    elif size is not None:
        if isinstance(size, bool) or not isinstance(size, Integral) or not 1 <= size <= intermediate_size:
            raise WidthPruneError(
                f"size must be a whole number of neurons from 1 to {intermediate_size}, got {size!r}"
            )
        kept = int(size)
    else:
        own = intermediate_size / hidden_size
        # A ratio printed to four decimals, as in the published tables, may round above the model's own.
        if not 0 < expansion_ratio <= own + 5e-5:
            raise WidthPruneError(
                f"expansion_ratio must be in (0, {own:.4f}], the model's own ratio, got {expansion_ratio}"
            )
        # 1e-6 of a neuron absorbs the floating-point error of ratio * hidden_size, which could cost one.
        kept = min(max(math.ceil(expansion_ratio * hidden_size - 1e-6), 1), intermediate_size)
    return min(-(-kept // multiple_of) * multiple_of, intermediate_size)
