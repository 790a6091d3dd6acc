"""The bandwidth model: a token of a single request cannot come faster than its weights can be read."""

import time

import torch
from transformers import PreTrainedModel


def read_bandwidth(device: str | torch.device = "cpu", *, megabytes: int = 512, repeats: int = 7) -> float:
    """Bytes per second that the device reads from memory: the best of ``repeats`` sums of one buffer.

    The buffer must be larger than every cache; a sum reads each byte once and writes none.
    """
    buffer = torch.ones(megabytes * 2**20 // 4, dtype=torch.float32, device=device)
    buffer.sum().item()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        buffer.sum().item()  # waits for the result
        seconds.append(time.perf_counter() - start)
    return buffer.numel() * buffer.element_size() / min(seconds)


def bytes_per_token(model: PreTrainedModel) -> int:
    """Bytes of weights read for each token: all, but for an input embedding that is not also the output's.

    Of the input embedding one row is read, which is not counted.
    """
    inputs, outputs = model.get_input_embeddings().weight, model.get_output_embeddings()
    whole = model.get_memory_footprint(return_buffers=False)
    return whole if outputs is not None and outputs.weight is inputs else whole - inputs.nbytes
