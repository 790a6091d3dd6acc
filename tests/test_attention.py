"""Attention to keys that all texts share is ordinary attention to each text's own copy of them."""

import pytest
import torch
from torch.nn import functional as F

from widthprune import attention
from widthprune.attention import Parts, attend


def ordinary(query, key, value, mask):
    """(B, T, heads, head size): every text holds a copy of the shared keys, every head one of its group's."""
    copies = [
        torch.cat([each.shared.expand(len(each.own), -1, -1, -1), each.own], dim=2).repeat_interleave(
            query.shape[1] // each.own.shape[1], dim=1
        )
        for each in (key, value)
    ]
    return F.scaled_dot_product_attention(query, *copies, attn_mask=mask).transpose(1, 2)


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("past", [0, 7])
@pytest.mark.parametrize("scores", [1, 100, 2**23])
def test_same_as_ordinary_attention(length, past, scores, monkeypatch):
    monkeypatch.setattr(attention, "SCORES", scores)
    torch.manual_seed(0)
    texts, heads, groups, slots, size = 3, 6, 2, 9, 4
    query = torch.randn(texts, heads, length, size)
    key, value = (
        Parts(torch.randn(1, groups, past, size), torch.randn(texts, groups, slots, size)) for _ in range(2)
    )
    mask = torch.rand(texts, 1, length, past + slots) < 0.5
    mask[..., -1] = True  # every token sees one at least
    found, _ = attend(torch.nn.Module(), query, key, value, mask)
    torch.testing.assert_close(found, ordinary(query, key, value, mask))


def test_a_token_that_sees_all_needs_no_mask():
    query = torch.randn(2, 4, 1, 8)
    key, value = (Parts(torch.randn(1, 2, 3, 8), torch.randn(2, 2, 5, 8)) for _ in range(2))
    found, _ = attend(torch.nn.Module(), query, key, value, None)
    torch.testing.assert_close(found, ordinary(query, key, value, None))


def test_padding_that_sees_nothing_is_a_number():
    query = torch.randn(1, 2, 1, 4)
    key, value = (Parts(torch.randn(1, 2, 3, 4), torch.randn(1, 2, 2, 4)) for _ in range(2))
    found, _ = attend(torch.nn.Module(), query, key, value, torch.zeros(1, 1, 1, 5, dtype=torch.bool))
    assert found.isfinite().all()
