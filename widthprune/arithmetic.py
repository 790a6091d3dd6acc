"""In which dtype a model computes: its own, or float32 where the processor only emulates its own.

The dtype of the weights belongs to a result's identity; that of the arithmetic is a matter of the
machine, and float32 arithmetic on the same weights is the more exact one.
"""

import sys
import time
from functools import cache

import psutil
import torch

from .errors import WidthPruneError

COMPUTE_DTYPES = ("auto", "weights", "float32", "bfloat16", "float16")


def check_compute_dtype(asked: str) -> None:
    """Refuse a name that is not in ``COMPUTE_DTYPES``."""
    if asked not in COMPUTE_DTYPES:
        raise WidthPruneError(f"compute_dtype must be one of {', '.join(COMPUTE_DTYPES)}, got {asked!r}")


def compute_in(model, asked: str = "auto"):
    """Convert a model's weights, in place, to the dtype in which it is to compute; returns the model.

    Parameters
    ----------
    model : PreTrainedModel
    asked : str
        "auto" takes float32 where this machine multiplies it faster than the weights' own dtype and has
        the memory for it, else the weights' own; "weights" always takes that; or a dtype by name.

    Raises
    ------
    WidthPruneError
        If ``asked`` is not known.
    """
    check_compute_dtype(asked)
    if asked == "weights":
        return model
    if asked != "auto":
        return model.to(getattr(torch, asked))
    if model.device.type != "cpu" or native(model.dtype):
        return model
    needed, free = 4 * model.num_parameters(), psutil.virtual_memory().available
    if needed > free:
        print(
            f"computing in {model.dtype}, which this processor emulates: float32 is faster and needs "
            f"{needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free".replace("torch.", ""),
            file=sys.stderr,
        )
        return model
    return model.to(torch.float32)


@cache
def native(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies matrices of ``dtype`` at least as fast as of float32.

    Measured, in well under a tenth of a second: no query that torch has tells it for every processor.
    """
    return dtype == torch.float32 or _seconds(dtype) <= _seconds(torch.float32)


def _seconds(dtype: torch.dtype, repeats: int = 3) -> float:
    """Of one matrix product, the fastest of a few: 0.1 GFLOP, so 2 ms or 15 ms, as far as is known."""
    rows, matrix = (torch.ones(n, 1024, dtype=dtype) for n in (64, 1024))
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.nn.functional.linear(rows, matrix)
        taken.append(time.perf_counter() - start)
    return min(taken)
