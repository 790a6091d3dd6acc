"""Attention to keys that all texts share is ordinary attention to each text's own copy of them."""

import pytest
import torch
from torch.nn import functional as F

from widthprune import WidthPruneError
from widthprune.evaluation.engine import attention
from widthprune.evaluation.engine.attention import Parts, attend


def ordinary(query, key, value, mask):
    """(B, T, heads, head size): every text holds a copy of the shared keys, every head one of its group's."""
    copies = [
        torch.cat(
            [each.shared.expand(len(each.own), -1, -1, -1), each.own[:, :, : each.filled]], dim=2
        ).repeat_interleave(query.shape[1] // each.own.shape[1], dim=1)
        for each in (key, value)
    ]
    return F.scaled_dot_product_attention(query, *copies, attn_mask=mask).transpose(1, 2)


def parts(texts, groups, past, slots, size, room=0, dtype=torch.float32):
    """Seeded keys and values; what no token has filled yet is there to be left out."""
    torch.manual_seed(1)
    return [
        Parts(
            torch.randn(1, groups, past, size, dtype=dtype),
            torch.randn(texts, groups, slots + room, size, dtype=dtype),
            slots,
        )
        for _ in range(2)
    ]


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("past", [0, 7])
@pytest.mark.parametrize("room", [0, 4])
@pytest.mark.parametrize("scores", [1, 100, 2**23])
def test_same_as_ordinary_attention(length, past, room, scores, monkeypatch):
    monkeypatch.setattr(attention, "SCORES", scores)
    torch.manual_seed(0)
    texts, heads, slots = 3, 6, 9
    query = torch.randn(texts, heads, length, 4)
    key, value = parts(texts, 2, past, slots, 4, room)
    mask = torch.rand(texts, 1, length, past + slots) < 0.5
    mask[..., -1] = True  # every token sees one at least
    found, _ = attend(torch.nn.Module(), query, key, value, mask)
    torch.testing.assert_close(found, ordinary(query, key, value, mask))


@pytest.mark.parametrize("room", [0, 2])
def test_a_token_that_sees_all_needs_no_mask(room):
    query = torch.randn(2, 4, 1, 8)
    key, value = parts(2, 2, 3, 5, 8, room)
    found, _ = attend(torch.nn.Module(), query, key, value, None)
    torch.testing.assert_close(found, ordinary(query, key, value, None))


def causal(length, slots, back=0):
    """What each of the last tokens sees (1, 1, length, slots), up to ``back`` slots before itself."""
    return torch.ones(length, slots, dtype=torch.bool).tril(slots - length - back)[None, None]


MASKS = {
    "none": None,
    "causal": causal(150, 157),
    "window": causal(150, 157) & ~causal(150, 157, back=20),
    "scattered": (torch.arange(150 * 157).view(1, 1, 150, 157) % 7 == 0) | (torch.arange(157) == 3),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("scores", [1, 2**23])
@pytest.mark.parametrize("room", [0, 4])
def test_long_texts_in_blocks(mask, scores, room, monkeypatch):
    monkeypatch.setattr(attention, "SCORES", scores)
    torch.manual_seed(0)
    past = 0 if mask == "none" else 7
    query = torch.randn(2, 6, 150, 4)
    key, value = parts(2, 3, past, 150, 4, room)
    seen = MASKS[mask] if past else causal(150, 150)
    found = attention._in_blocks(query / 2, key, value, MASKS[mask])
    torch.testing.assert_close(found, ordinary(query, key, value, seen))


@pytest.mark.parametrize("mask", ["none", "causal"])
def test_bfloat16_on_a_processor_is_as_near_to_the_truth_as_torchs_own(mask):
    torch.manual_seed(0)
    past = 0 if mask == "none" else 7
    query = torch.randn(2, 6, 150, 16, dtype=torch.bfloat16)
    key, value = parts(2, 3, past, 150, 16, dtype=torch.bfloat16)
    seen = causal(150, 150 + past)
    exact = ordinary(
        query.float(), *[Parts(e.shared.float(), e.own.float(), 150) for e in (key, value)], seen
    )
    found, _ = attend(torch.nn.Module(), query, key, value, MASKS[mask])
    theirs = ordinary(query, key, value, seen)
    # Scores are rounded to 16 bits before the softmax, as in transformers' eager attention.
    assert (found - exact).abs().max() < 3 * (theirs - exact).abs().max()


def test_padding_that_sees_nothing_is_a_number():
    query = torch.randn(1, 2, 1, 4)
    key, value = parts(1, 2, 3, 2, 4)
    found, _ = attend(torch.nn.Module(), query, key, value, torch.zeros(1, 1, 1, 5, dtype=torch.bool))
    assert found.isfinite().all()
    blocks = attention._in_blocks(query, key, value, torch.zeros(1, 1, 1, 5, dtype=torch.bool))
    assert blocks.isfinite().all()


@pytest.mark.parametrize("name", attention.CHANGES_SCORES)
def test_what_changes_scores_is_refused_and_not_left_out(name):
    query = torch.randn(1, 2, 1, 4)
    key, value = parts(1, 2, 0, 1, 4)
    with pytest.raises(WidthPruneError, match=name):
        attend(torch.nn.Module(), query, key, value, None, **{name: torch.ones(1, 2, 1, 1)})
