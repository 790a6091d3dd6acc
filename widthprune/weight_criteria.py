"""Importance criteria: pure functions from the weights of one MLP to one score per neuron.

Neuron j of a GLU MLP is row j of ``gate_proj`` and row j of ``up_proj`` together with column j of
``down_proj``. Every criterion here reads the two rows, each of shape (d_model,), and gives neuron j
one number; the lowest numbers are pruned first. None needs data. An MLP without a gate has one row
per neuron, and a criterion's sum or product over the rows then has one term.
"""

import math
from collections.abc import Sequence
from inspect import signature

import numpy as np
import torch
from torch import Tensor

from .criteria import Criterion, find_criterion
from .errors import WidthPruneError, in_one_line

BLOCK = 128  # rows reduced at a time: half a megabyte at d_model 2048


def maw(*inputs: Tensor) -> Tensor:
    """Maximum Absolute Weight: max|w| of the gate row plus max|w| of the up row.

    The definition in the text of the paper's v1 (section 3.2). It is not what the paper's code ran:
    see `ppm`.
    """
    return sum(_peak(weight) for weight in inputs)


def _peak(weight: Tensor) -> Tensor:
    largest, smallest = _extremes(weight)
    return torch.maximum(largest, -smallest)


def _extremes(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Largest and smallest entry of every row, float32; no float32 copy of the matrix."""
    if weight.dtype not in (torch.bfloat16, torch.float16) or weight.device.type != "cpu":
        # Two reductions: torch's aminmax over rows was measured to take seven times as long.
        return weight.amax(dim=1).float(), weight.amin(dim=1).float()
    # A 16-bit float is a sign bit and a magnitude that orders like an integer: as int16 the largest entry
    # is the largest number, as uint16 the negative one farthest from zero. Integers reduce twice as fast,
    # and blocks that fit in the cache are read from memory once.
    bits = weight.detach().view(torch.int16).numpy()
    signed, unsigned = np.empty(len(bits), np.int16), np.empty(len(bits), np.uint16)
    for start in range(0, len(bits), BLOCK):
        rows = slice(start, start + BLOCK)
        bits[rows].max(axis=1, out=signed[rows])
        bits[rows].view(np.uint16).max(axis=1, out=unsigned[rows])
    largest = torch.from_numpy(signed).view(weight.dtype).float()
    smallest = torch.from_numpy(unsigned.view(np.int16)).view(weight.dtype).float()
    # Not so in a row whose entries all have one sign.
    one_sign = torch.from_numpy((signed < 0) | (unsigned < 2**15)).nonzero().flatten()
    if len(one_sign):
        largest[one_sign] = weight[one_sign].amax(dim=1).float()
        smallest[one_sign] = weight[one_sign].amin(dim=1).float()
    return largest, smallest


def ppm(*inputs: Tensor) -> Tensor:
    """Peak-to-Peak Magnitude: (max w + |min w|) of the gate row plus the same of the up row.

    This is the paper's method, and the default. The code behind every published number computed
    this score and called it MAW; v1 of the paper described it as the maximum absolute weight, which
    is `maw`; v3 keeps the code, renames it Peak-to-Peak Magnitude and corrects the text. The two rank
    neurons differently: a row with one large positive weight, and a row with one large positive and
    one large negative weight, tie under MAW and differ under PPM.
    """
    return sum(peak_to_peak(weight) for weight in inputs)


def peak_to_peak(weight: Tensor) -> Tensor:
    """max w + |min w| of every row: (n, m) in any floating dtype to (n,) float32."""
    # The extremes of a 16-bit row are exact, so only their sum needs float32.
    largest, smallest = _extremes(weight)
    return largest + smallest.abs()


def ppm_reversed(*inputs: Tensor) -> Tensor:
    """Minus PPM: the neurons that PPM holds most important go first.

    A control of direction. What falls less under it than under random neurons is what low PPM scores
    carry, and the criterion then points the wrong way for it.
    """
    return -ppm(*inputs)


def ppm_gate(*inputs: Tensor) -> Tensor:
    """PPM of the gate row alone; of the one input row where there is no gate."""
    return peak_to_peak(inputs[0]) + _zero(*inputs)


def ppm_up(*inputs: Tensor) -> Tensor:
    """PPM of the up row alone; of the one input row where there is no gate."""
    return peak_to_peak(inputs[-1]) + _zero(*inputs)


def _zero(*inputs: Tensor) -> Tensor:
    """Zeros; NaN for neurons with NaN or infinity in a row that a score leaves out, so that it is refused."""
    return 0 * ppm(*inputs)


def vow(*inputs: Tensor) -> Tensor:
    """Variance Of Weights: unbiased variance of the gate row plus that of the up row."""
    return sum(weight.float().var(dim=1) for weight in inputs)


def pon(*inputs: Tensor) -> Tensor:
    """Product Of Norms: L1 norm of the gate row times L1 norm of the up row."""
    return math.prod(weight.float().norm(p=1, dim=1) for weight in inputs)


def l2(*inputs: Tensor) -> Tensor:
    """L2 norm of the gate row plus L2 norm of the up row (added in the paper's v3)."""
    return sum(weight.float().norm(p=2, dim=1) for weight in inputs)


def random_order(*inputs: Tensor, seed: int | Sequence[int] = 0) -> Tensor:
    """A seeded random permutation of 0 .. d_ff - 1: the control that every criterion must beat."""
    try:
        drawn = np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise WidthPruneError(f"seed must be a whole number of at least 0, got {seed!r}") from None
    order = torch.from_numpy(drawn.permutation(len(inputs[0]))).float()
    return order.to(inputs[0].device) + _zero(*inputs)


def score_neurons(
    gate: Tensor, up: Tensor | None, criterion: str = "PPM", *, seed: int | Sequence[int] = 0
) -> Tensor:
    """Importance of every neuron of one MLP.

    Parameters
    ----------
    gate, up : Tensor, shape (d_ff, d_model)
        Weights of ``gate_proj`` and ``up_proj``, any floating dtype; computed in float32. Of an MLP
        without a gate, its one input projection and None.
    criterion : str
        One of ``CRITERIA``.
    seed : int or sequence of int
        Only for criteria that are drawn (``RANDOM``); a sequence such as (seed, layer) gives each layer its
        own permutation.

    Returns
    -------
    Tensor, shape (d_ff,), float32
        The higher, the more important.

    Raises
    ------
    WidthPruneError
        If the criterion is unknown, the shapes differ or are not two-dimensional, or a weight is
        NaN or infinite.

    Examples
    --------
    >>> gate = torch.tensor([[1.0, -3.0], [2.0, 2.0]])
    >>> score_neurons(gate, gate, "PPM").tolist()
    [8.0, 8.0]
    >>> score_neurons(gate, gate, "MAW").tolist()
    [6.0, 4.0]
    >>> score_neurons(gate, None, "MAW").tolist()
    [3.0, 2.0]
    """
    record = find_criterion(criterion, needs_text=False)
    inputs = (gate,) if up is None else (gate, up)
    if gate.ndim != 2 or any(weight.shape != gate.shape for weight in inputs):
        raise WidthPruneError(
            f"gate and up must both have shape (d_ff, d_model), got "
            f"{' and '.join(str(tuple(weight.shape)) for weight in inputs)}: neurons are pruned in pairs"
        )
    if not all(weight.is_floating_point() for weight in inputs):
        raise WidthPruneError(
            f"gate and up must hold floating-point weights, got "
            f"{' and '.join(str(weight.dtype) for weight in inputs)}: prune the unquantized model"
        )
    seeded = {"seed": seed} if record.seeded else {}
    scores = apply_formula(record, len(gate), *inputs, **seeded)
    if not bool(scores.isfinite().all()):
        if all(bool(weight.isfinite().all()) for weight in inputs):
            raise WidthPruneError(
                f"{record.name} gives NaN or infinity for these weights: choose another criterion"
            )
        raise WidthPruneError("gate and up must be finite, got NaN or infinity: reload the checkpoint")
    return scores


def apply_formula(record: Criterion, d_ff: int, *inputs, **named) -> Tensor:
    """What a criterion's function gives for one MLP, or a line on what is wrong with the function.

    Raises
    ------
    WidthPruneError
        If the function takes other arguments, fails, or does not give a tensor of shape (d_ff,).
    """
    function = record.function
    try:
        signature(function).bind(*inputs, **named)
    except TypeError:
        taken = "by its activations" if record.needs_text else f"of {len(inputs)} input matrices"
        raise WidthPruneError(
            f"{record.name} cannot score an MLP {taken}: choose another criterion"
        ) from None
    except ValueError:
        pass  # a function written in C need not say what it takes
    with in_one_line(f"{record.name} fails on these weights", f"mend its function, {record.score}"):
        scores = function(*inputs, **named)
    if not isinstance(scores, Tensor) or scores.shape != (d_ff,):
        got = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise WidthPruneError(f"{record.name} must give a score for each of {d_ff} neurons, got {got}")
    return scores
