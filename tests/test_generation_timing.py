"""Timed batches: the tokens are those of generate, the counts those of the protocol."""

import pytest
import torch
from conftest import tiny_model

from widthprune import prune_model
from widthprune.efficiency.generation_timing import time_batch

PROMPTS = [[5, 6, 7, 8, 9], [11, 12, 13]]


def test_by_hand_with_a_clock_that_ticks(llama):
    ticks = iter([0.0, 3.0, 4.0, 6.0, 6.5])
    batch = time_batch(llama, PROMPTS, 3, protocol="fixed", clock=lambda: next(ticks))
    assert (batch.first_token_s, batch.step_s, batch.last_token_s) == (3.0, (1.0, 2.0), 6.5)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_the_tokens_are_those_of_generate(family):
    model = tiny_model(family)
    padded = torch.tensor([PROMPTS[0], [0, 0, *PROMPTS[1]]])
    mask = torch.tensor([[1] * 5, [0, 0, 1, 1, 1]])
    expected = model.generate(
        padded, attention_mask=mask, max_new_tokens=12, min_new_tokens=12, do_sample=False, pad_token_id=0
    )
    batch = time_batch(model, PROMPTS, 12, protocol="fixed")
    assert [list(answer) for answer in batch.answers] == expected[:, 5:].tolist()


def test_tokens_after_the_end_and_padding_are_not_counted(llama):
    whole = time_batch(llama, PROMPTS, 10, protocol="fixed").answers
    eos = whole[0][2]
    ended = time_batch(llama, PROMPTS, 10, protocol="free", eos=[eos])
    expected = [row[: row.index(eos) + 1] if eos in row else row for row in whole]
    assert list(ended.answers) == expected and len(expected[0]) <= 3
    assert ended.new_tokens == sum(map(len, expected)) < 20


def test_a_fixed_run_has_the_same_length_at_every_ratio(llama):
    models = [llama, *(prune_model(llama, pruning_pct=pct) for pct in (20, 40, 60))]
    fixed = [time_batch(m, PROMPTS, 10, protocol="fixed") for m in models]
    # Ends each model at its first token, so a protocol that took notice of it would stop.
    ends = [batch.answers[0][0] for batch in fixed]
    stopped = [time_batch(m, PROMPTS[:1], 10, protocol="free", eos=ends) for m in models]
    again = [time_batch(m, PROMPTS[:1], 10, protocol="fixed", eos=ends) for m in models]
    assert [batch.new_tokens for batch in stopped] == [1] * 4
    assert [batch.new_tokens for batch in again] == [10] * 4
    assert [batch.new_tokens for batch in fixed] == [20] * 4
