"""Greedy generation in large batches: each prompt is read once, without padding, then all go on together.

`transformers` generates a batch until its last row has ended, and copies the whole cache to append a
token. Here a row leaves the batch when it ends, the cache is allocated once, and what prompts begin
with in common is read and held once (`widthprune.evaluation.engine.attention`). The tokens are those of
``model.generate(do_sample=False)`` up to ties within rounding: a test compares the two.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, GenerationConfig

from .attention import SharedLayer, shared_attention
from .threads import side_by_side

# Keys and values of one batch. On a CPU they share a laptop's memory with the weights, and fewer rows cost some time; an
# accelerator, which mostly waits for its weights, would lose far more by fewer rows.
CPU_CACHE_BYTES, CACHE_BYTES = 1.5e9, 3e9
ROOM = 128  # slots by which the cache of a batch grows
CHECK_EVERY = 8  # steps between two looks at the text for a stop sequence
# Settings of a model's generation config that make its greedy choice another than the likeliest token.
CHANGES_GREEDY = (
    "repetition_penalty",
    "no_repeat_ngram_size",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "min_length",
    "min_new_tokens",
    "sequence_bias",
    "exponential_decay_length_penalty",
    "guidance_scale",
    "num_beams",
)


def sliding_window(model: nn.Module) -> int | None:
    """Tokens that the model's sliding layers look back; None where every layer sees all."""
    return getattr(model.config.get_text_config(), "sliding_window", None)


def plain_greedy(model: nn.Module) -> bool:
    """Whether the model's own generation config leaves greedy search at the likeliest token."""
    default, own = GenerationConfig(), getattr(model, "generation_config", None) or GenerationConfig()
    neutral = {"num_beams": 1, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0}
    return all(
        getattr(own, name, None) in (None, neutral.get(name), getattr(default, name, None))
        for name in CHANGES_GREEDY
    )


def slots(model: nn.Module) -> int:
    """Tokens whose keys and values fill the cache: a batch is rows times longest prompt and answer."""
    text = model.config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    room = CPU_CACHE_BYTES if model.device.type == "cpu" else CACHE_BYTES
    return int(room / (2 * text.num_hidden_layers * heads * size * model.dtype.itemsize))


def likeliest(logits: Tensor) -> Tensor:
    """The first of the likeliest tokens: argmax, which takes five times as long in bfloat16 (torch 2.13, CPU)."""
    return logits.max(dim=-1).indices


@torch.no_grad()
def read(model: nn.Module, tokens: Sequence[int], past: DynamicCache | None = None):
    """Read tokens of one text after what ``past`` holds: (logits of the next token (V,), its cache)."""
    past = DynamicCache() if past is None else past
    out = model(
        torch.tensor([tokens], device=model.device), past_key_values=past, use_cache=True, logits_to_keep=1
    )
    return out.logits[0, -1], past


@torch.no_grad()
def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    eos: Sequence[int] = (),
    stopped: Callable[[list[int]], bool] = lambda tokens: False,
    prefix: Sequence[int] = (),
) -> list[list[int]]:
    """Continue every prompt with the likeliest tokens.

    Parameters
    ----------
    model : PreTrainedModel
        One to which `widthprune.evaluation.engine.choice.objection` has none.
    prompts : sequence of token sequences
        Each begins with ``prefix`` and has at least one token after it.
    max_new_tokens : int
        Tokens generated at most, at least 1.
    eos : sequence of int
        Tokens that end an answer; the one that does is its last token.
    stopped : callable
        Tells from the tokens of an answer whether it may end; asked every few tokens, so an answer
        may be longer than it need be.
    prefix : token sequence
        Read once for all prompts.

    Returns
    -------
    list of list of int
        One answer a prompt, in their order.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    if not prompts:
        return answers
    ends = torch.tensor(sorted(eos), device=model.device)
    past = read(model, prefix)[1] if len(prefix) else DynamicCache()
    # A window counts the padding that stands before a row: there, each row holds the prefix itself.
    shared = past if not sliding_window(model) else DynamicCache()
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    room = slots(model)
    with shared_attention(model):
        while order:
            own = len(prompts[order[0]]) - shared.get_seq_length() + max_new_tokens
            rows = max(1, room // own)
            batch, order = order[:rows], order[rows:]
            some = [prompts[i] for i in batch]
            _continue(model, some, max_new_tokens, ends, stopped, past, shared, batch, answers)
    return answers


def _continue(model, prompts, max_new_tokens, ends, stopped, past, shared, batch, answers):
    """Decode one batch; writes the answer of row r to ``answers[batch[r]]``."""
    tokens, cache = _fill(model, prompts, past, shared)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    # Padding stands after what all rows share and before what each row holds.
    start, longest = shared.get_seq_length(), int(lengths.max())
    place = torch.arange(longest, device=model.device)
    mask = ((place < start) | (place >= start + longest - lengths[:, None])).long()
    written = tokens[:, None]  # (rows, steps)
    names, ended = list(batch), torch.zeros(len(batch), dtype=torch.bool, device=model.device)
    for step in range(1, max_new_tokens + 1):
        ends_now = torch.isin(tokens, ends)
        if step % CHECK_EVERY == 0:
            ends_now |= torch.tensor([stopped(text) for text in written.tolist()], device=model.device)
        if step == max_new_tokens:
            ends_now[:] = True
        ends_now &= ~ended
        for row in ends_now.nonzero().flatten().tolist():
            answers[names[row]] = written[row].tolist()
        ended |= ends_now
        if ended.all():
            return
        # Letting rows go copies the cache of the others, so a few are let go at a time.
        if ended.sum() >= max(1, len(ended) // 8):
            keep = (~ended).nonzero().flatten()
            names, ended = [names[row] for row in keep.tolist()], ended[keep]
            tokens, lengths, mask, written = tokens[keep], lengths[keep], mask[keep], written[keep]
            cache.batch_select_indices(keep)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        out = model(
            tokens[:, None],
            attention_mask=mask,
            position_ids=(lengths + step - 1)[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        tokens = likeliest(out.logits[:, -1])
        written = torch.cat([written, tokens[:, None]], dim=1)


def _fill(model, prompts, past, shared) -> tuple[Tensor, DynamicCache]:
    """Read each prompt by itself after ``past``.

    Returns the first tokens (rows,) and one cache of all rows after ``shared``, their ends aligned.
    Padding stands before what a row holds, never inside it, so that a sliding window counts true distances.
    """
    start = shared.get_seq_length()
    held = max(map(len, prompts)) - start
    rows = DynamicCache()

    def fill(row):
        logits, own = read(model, prompts[row][past.get_seq_length() :], copy.deepcopy(past))
        each = [(layer.keys[:, :, start:], layer.values[:, :, start:]) for layer in own.layers]
        if not rows.layers:
            pasts = [(layer.keys, layer.values) for layer in shared.layers] or [None] * len(each)
            rows.layers = [
                _Rows(known, keys, values, len(prompts), held)
                for known, (keys, values) in zip(pasts, each, strict=True)
            ]
        for layer, (keys, values) in zip(rows.layers, each, strict=True):
            layer.put(row, keys, values)
        return likeliest(logits)

    # The first says how large keys and values are; then there is a place for each of the others.
    first = [fill(0), *side_by_side(fill, range(1, len(prompts)), model.device)]
    return torch.stack(first), rows


class _Rows(SharedLayer):
    """Keys and values (rows, heads, slots, head size) after ``past``, with room for some tokens to come.

    The room is read as well, under a mask: matrices that lie densely are multiplied several times as
    fast in 16 bits, and copying them at every token is what they save.
    """

    def __init__(self, past, keys: Tensor, values: Tensor, rows: int, filled: int):
        super().__init__(past)
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._all = [t.new_zeros(rows, t.shape[1], filled + ROOM, t.shape[3]) for t in (keys, values)]
        self._show(filled)

    def _show(self, filled: int) -> None:
        self._filled = filled
        self.keys, self.values = (t[:, :, :filled] for t in self._all)

    def put(self, row: int, keys: Tensor, values: Tensor) -> None:
        for whole, own in zip((self.keys, self.values), (keys, values), strict=True):
            whole[row, :, whole.shape[2] - own.shape[2] :] = own[0]

    def grow(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        end = self._filled + keys.shape[2]
        if (lack := end - self._all[0].shape[2]) > 0:
            self._all = [F.pad(t, (0, 0, 0, lack + ROOM)) for t in self._all]
        for whole, new in zip(self._all, (keys, values), strict=True):
            whole[:, :, self._filled : end] = new
        self._show(end)
        return tuple(self._all)

    def batch_select_indices(self, indices: Tensor) -> None:
        self._all = [t[indices] for t in self._all]
        self._show(self._filled)
