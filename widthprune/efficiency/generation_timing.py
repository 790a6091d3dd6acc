"""One batch, timed: when the first token is there, how long each further one takes, when the last is there."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import DynamicCache

PROTOCOLS = ("free", "fixed")


@dataclass(frozen=True)
class TimedBatch:
    """What the clock saw of one batch. Times are in seconds, from the moment the batch is handed over."""

    first_token_s: float
    step_s: tuple[float, ...]  # of each token after the first
    last_token_s: float
    answers: tuple[tuple[int, ...], ...]  # per row; the token that ends an answer is its last

    @property
    def new_tokens(self) -> int:
        """Tokens of the answers, without padding and without what follows an end of sequence."""
        return sum(map(len, self.answers))


@torch.no_grad()
def time_batch(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    protocol: str,
    eos: Sequence[int] = (),
    clock=time.perf_counter,
) -> TimedBatch:
    """Continue a batch with the likeliest tokens and time each.

    Parameters
    ----------
    prompts : sequence of token sequences
        Padded on the left to one length.
    max_new_tokens : int
        At least 1.
    protocol : str
        "free" ends an answer at a token of ``eos``, and the batch with its last answer; "fixed" takes
        no notice of ``eos``: every answer has exactly ``max_new_tokens``.
    eos : sequence of int
        Tokens that end an answer under "free".
    clock : callable
        Seconds; the device is idle whenever it is read.
    """
    device = model.device
    ends = torch.tensor(sorted(eos) if protocol == "free" else [], dtype=torch.long, device=device)
    _wait(device)
    start = clock()
    tokens, mask = _padded(prompts, device)
    cache = DynamicCache(config=model.config)
    chosen = _next(model, tokens, mask, (mask.cumsum(1) - 1).clamp(min=0), cache)
    written, ended = [chosen], torch.isin(chosen, ends)
    _wait(device)
    first = previous = clock()
    position, steps = mask.sum(1, keepdim=True), []
    while len(written) < max_new_tokens and not (len(ends) and bool(ended.all())):
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        chosen = _next(model, chosen[:, None], mask, position, cache)
        position = position + 1
        written.append(chosen)
        ended |= torch.isin(chosen, ends)
        _wait(device)
        now = clock()
        steps.append(now - previous)
        previous = now
    rows = torch.stack(written, dim=1).tolist()
    last = clock()
    answers = tuple(_until_end(row, set(ends.tolist())) for row in rows)
    return TimedBatch(first - start, tuple(steps), last - start, answers)


def _next(model, tokens, mask, position, cache):
    out = model(
        tokens,
        attention_mask=mask,
        position_ids=position,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return out.logits[:, -1].argmax(dim=1)


def _padded(prompts, device):
    """(tokens, mask), each (rows, longest prompt), prompts at the right."""
    longest = max(map(len, prompts))
    tokens = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)


def _until_end(row, ends) -> tuple[int, ...]:
    length = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
    return tuple(row[:length])


def _wait(device) -> None:
    """Until the device has done what it was given: an accelerator returns before it has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
