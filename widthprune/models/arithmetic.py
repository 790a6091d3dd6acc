"""In which dtype a model computes: its own, or float32 where the processor only emulates its own.

The dtype of the weights belongs to a result's identity; that of the arithmetic is a matter of the
machine, and float32 arithmetic on the same weights is the more exact one.
"""

import sys
import time
from functools import cache

import psutil
import torch

from ..errors import WidthPruneError

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
        "auto" takes float32 where this machine multiplies it faster than the weights' own dtype, has the memory for it, and
        rounds no weight; else the weights' own. "weights" always takes that. Or a dtype by name.

    Raises
    ------
    WidthPruneError
        If ``asked`` is not known, or cannot hold the weights as they are.
    """
    check_compute_dtype(asked)
    if asked == "weights":
        return model
    if asked != "auto":
        dtype = getattr(torch, asked)
        if torch.promote_types(model.dtype, dtype) != dtype:
            raise WidthPruneError(
                f"compute_dtype {asked} would round weights of {model.dtype}: name a wider one".replace(
                    "torch.", ""
                )
            )
        return model.to(dtype)
    # float32 would round weights of float64, which are asked for as a reference.
    if model.device.type != "cpu" or model.dtype == torch.float64 or native(model.dtype):
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

    Measured, in a tenth of a second: no query that torch has tells it for every processor.
    """
    if dtype == torch.float32:
        return True
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two would wait for each other, and the waiting would be counted
    try:
        # In turn, so that a change of the clock meets both.
        taken = [(_seconds(dtype), _seconds(torch.float32)) for _ in range(5)]
    finally:
        torch.set_num_threads(threads)
    own, single = map(min, zip(*taken, strict=True))
    return own <= single


def _seconds(dtype: torch.dtype) -> float:
    """Processor time of one matrix product of 0.03 GFLOP, by the thread that asks.

    Not the time by the clock: where other programs run, that measures when this one was let on.
    """
    rows, matrix = torch.ones(32, 512, dtype=dtype), torch.ones(1024, 512, dtype=dtype)
    start = time.thread_time()
    torch.nn.functional.linear(rows, matrix)
    return time.thread_time() - start
