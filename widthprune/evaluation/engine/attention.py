"""Attention of many texts to a beginning they share, whose keys and values are held once.

The texts' queries meet the shared keys in one matrix product, instead of each text reading a copy of
its own (the prefix cache of Juravsky et al. 2024, "Hydragen"); the softmax runs over both parts, so
the result is that of ordinary attention. Query heads that share keys are rows of one product, where a
mask makes `scaled_dot_product_attention` repeat the keys.
"""

from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer

from ...errors import WidthPruneError

NAME = "widthprune_shared"
ORDINARY = AttentionInterface()["sdpa"]
SCORES = 2**23  # attention scores held at once
# From this many tokens of a text on, a processor reads faster in blocks of them than in torch's kernel.
LONG = 64
# What models hand to attention that makes it more than a softmax of scaled dot products.
CHANGES_SCORES = ("position_bias", "softcap", "s_aux", "sinks", "alibi", "head_mask")


class Parts(NamedTuple):
    """Keys or values of texts that begin alike."""

    shared: Tensor  # what all of them begin with (1, kv heads, P, head size)
    own: Tensor  # what each of them holds by itself (B, kv heads, S, head size)
    filled: int  # of these S slots; the others are room for tokens to come


class SharedLayer(DynamicLayer):
    """One layer's cache: ``past``, read once for all texts, and what each of them adds."""

    def __init__(self, past: tuple[Tensor, Tensor] | None = None):
        super().__init__()
        self.past = past

    def grow(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add tokens; (keys, values) of all that the texts hold by themselves, room for more included."""
        return super().update(keys, values)

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs):
        own = self.grow(key_states, value_states)
        past = self.past or (own[0][:1, :, :0], own[1][:1, :, :0])
        filled = super().get_seq_length()
        return tuple(Parts(shared, each, filled) for shared, each in zip(past, own, strict=True))

    def get_seq_length(self) -> int:
        return super().get_seq_length() + (self.past[0].shape[2] if self.past else 0)

    def batch_select_indices(self, indices: Tensor) -> None:
        if self.is_initialized:
            super().batch_select_indices(indices)


def shared_cache(past: DynamicCache) -> DynamicCache:
    """An empty cache of any number of texts that all begin with the one text in ``past``."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = SharedLayer
    cache.layers = [SharedLayer((layer.keys, layer.values)) for layer in past.layers]
    return cache


@contextmanager
def shared_attention(model: nn.Module):
    """Inside, the attention of a model of scaled dot products ("sdpa") can read a `shared_cache`, too."""
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation("sdpa")


def attend(module, query: Tensor, key, value, attention_mask: Tensor | None, scaling=None, **kwargs):
    """Attention in the form `transformers.AttentionInterface` wants; keys and values are tensors or `Parts`.

    Parameters
    ----------
    query : tensor
        (B, heads, T, head size).
    attention_mask : bool tensor
        (B or 1, 1, T, slots), or None where each token sees all that stands before it.

    Returns
    -------
    (tensor, None)
        (B, T, heads, head size).

    Raises
    ------
    WidthPruneError
        If the model changes the scores by more than a mask: what reads keys in parts would leave it out.
    """
    if given := [name for name in CHANGES_SCORES if kwargs.get(name) is not None]:
        raise WidthPruneError(
            f"shared_attention is for scaled dot products, and this model gives {', '.join(given)}"
        )
    long = query.shape[2] >= LONG and query.device.type == "cpu" and query.dtype == torch.bfloat16
    if isinstance(key, Parts) and attention_mask is None and query.shape[2] > 1 and not long:
        key, value = key.own, value.own  # no mask, so nothing is shared and no slot is empty
    if isinstance(key, Tensor) and not long:
        return ORDINARY(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if isinstance(key, Tensor):
        key, value = (Parts(each[:1, :, :0], each, each.shape[2]) for each in (key, value))
    query = query * (query.shape[3] ** -0.5 if scaling is None else scaling)
    return (_in_blocks if long else _in_batches)(query, key, value, attention_mask), None


def _in_blocks(query: Tensor, key: Parts, value: Parts, mask: Tensor | None) -> Tensor:
    """Some tokens of one text at a time, on the slots that one of them sees.

    Products of two plain matrices: batches of 16-bit matrices that are not dense are copied first.
    """
    texts, heads, length, size = query.shape
    groups = key.own.shape[1]
    slots = key.shared.shape[2] + key.filled
    tokens = max(1, min(LONG, SCORES * groups // (heads * slots)))
    out = torch.empty(texts, length, heads, size, dtype=query.dtype, device=query.device)
    for text in range(texts):
        keys, values = ([*torch.cat([x.shared[0], x.own[text, :, : x.filled]], dim=1)] for x in (key, value))
        own_mask = None if mask is None else mask[min(text, len(mask) - 1), 0]
        for start in range(0, length, tokens):
            few = slice(start, min(start + tokens, length))
            seen, hidden, sees = _sight(few, length, slots, own_mask)
            # Heads that share keys: (kv heads, heads of one, tokens, head size)
            queries = query[text, :, few].unflatten(0, (groups, -1))
            for group in range(groups):
                rows = queries[group].flatten(0, 1)
                scores = (rows @ keys[group][seen].T).unflatten(0, (heads // groups, -1))
                scores[..., hidden].masked_fill_(~sees, torch.finfo(scores.dtype).min)
                mean = scores.softmax(dim=-1).flatten(0, 1) @ values[group][seen]
                queries[group] = mean.view_as(queries[group])
            out[text, few] = queries.flatten(0, 1).transpose(0, 1)
    return out


def _sight(few: slice, length: int, slots: int, mask: Tensor | None) -> tuple[slice, slice, Tensor]:
    """What a few of the last ``length`` tokens see, by their mask (length, slots) or all before them.

    Returns the slots that one of them sees, those among these that another does not see, and whether
    each token sees each of the latter (tokens, hidden slots).
    """
    if mask is None:
        count, end = few.stop - few.start, slots - length + few.stop
        return slice(0, end), slice(end - count, end), torch.ones(count, count, dtype=torch.bool).tril()
    # Over the tokens, the largest of 0 and 1 is found ten times as fast as any() and all().
    sees = mask[few].view(torch.uint8)
    seen = _span(sees.amax(dim=0))
    hidden = _span(sees[:, seen].amin(dim=0) == 0)
    return seen, hidden, mask[few, seen][:, hidden]


def _span(wanted: Tensor) -> slice:
    """From the first place that is not zero to after the last."""
    places = wanted.nonzero()
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def _in_batches(query: Tensor, key: Parts, value: Parts, mask: Tensor | None) -> Tensor:
    """A few texts, or a few tokens of one, at a time: scores that stay in the processor's cache."""
    texts, heads, length, size = query.shape
    past = key.shared.shape[2]
    slots = past + key.own.shape[2]
    if mask is None:
        mask = query.new_ones(1, 1, 1, past + key.filled, dtype=torch.bool)
    # Nobody sees what is still empty.
    mask = F.pad(mask, (0, slots - mask.shape[-1])).expand(texts, 1, length, slots)
    rows = min(texts, max(1, SCORES // (heads * length * slots)))
    tokens = min(length, max(1, SCORES // (heads * rows * slots)))
    out = torch.empty(texts, length, heads, size, dtype=query.dtype, device=query.device)
    for row in range(0, texts, rows):
        some = slice(row, row + rows)
        keys, values = (each._replace(own=each.own[some]) for each in (key, value))
        for token in range(0, length, tokens):
            few = slice(token, token + tokens)
            out[some, few] = _weighted(query[some, :, few], keys, values, mask[some, :, few])
    return out


def _weighted(query: Tensor, key: Parts, value: Parts, mask: Tensor) -> Tensor:
    texts, heads, length, size = query.shape
    groups, past = key.own.shape[1], key.shared.shape[2]
    query = query.reshape(texts, groups, -1, size)  # the heads that share keys, and their tokens, as rows
    scores = query @ key.own.mT
    if past:
        scores = torch.cat([_with_shared(query, key.shared.mT), scores], dim=-1)
    scores = scores.view(texts, groups, heads // groups, length, -1)
    scores.masked_fill_(~mask[:, :, None], torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1).flatten(2, 3)
    mean = weights[..., past:] @ value.own
    if past:
        mean += _with_shared(weights[..., :past], value.shared)
    return mean.reshape(texts, heads, length, size).transpose(1, 2)


def _with_shared(rows: Tensor, shared: Tensor) -> Tensor:
    """Rows (B, kv heads, R, X) times what all texts share (1, kv heads, X, Y), as one product a head."""
    texts, groups, count, _ = rows.shape
    product = rows.transpose(0, 1).flatten(1, 2) @ shared[0]
    return product.view(groups, texts, count, -1).transpose(0, 1)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, AttentionMaskInterface()["sdpa"])
