"""Texts side by side: on a processor, each of several texts is read by threads of its own.

All threads on one text wait for each other after every operation, and a small model has thousands of
them a text. Threads that read different texts never wait, and hold the model once.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

MOST = 4  # more would wait for Python, which runs in one at a time; measured with two only


def readers(device: torch.device) -> int:
    """How many texts, or batches of them, are read at a time: one where there is an accelerator."""
    return min(MOST, torch.get_num_threads()) if device.type == "cpu" else 1


def side_by_side(function: Callable, items: Sequence, device: torch.device) -> list:
    """``[function(item) for item in items]``, in as many threads as there are `readers`; they share torch's."""
    count = min(readers(device), len(items))
    if count < 2:
        return [function(item) for item in items]
    threads = torch.get_num_threads()
    # A thread takes this over when it computes for the first time.
    torch.set_num_threads(threads // count)
    try:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(threads)
