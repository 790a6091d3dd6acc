"""PrefixLM: the log-likelihoods of lm-eval's own HFLM, from fewer tokens."""

import pytest
import torch
from conftest import tiny_model
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer

from widthprune.prefix_lm import MIN_SHARED, PrefixLM, _by_prefix

SHOTS = "Question: is water wet?\nAnswer: yes\n\nQuestion: is fire cold?\nAnswer: no\n\n"
TEXTS = [
    *[(f"{SHOTS}Question: is {thing} old?\nAnswer:", answer) for thing in ("the sun", "a", "tea") for answer in
      (" yes", " no", " it depends on the observer", "?")],
    ("alone", " in a group without a prefix"),
    ("alone", " in a group without a prefix"),  # a duplicate
    ("", " an empty context"),
    ("x" * 400, " longer than the model can read" * 40),
]  # fmt: skip


def requests():
    return [Instance("loglikelihood", {}, text, i) for i, text in enumerate(TEXTS)]


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
@pytest.mark.parametrize("batch_tokens", [64, 16384])
def test_same_as_hflm(family, batch_tokens, language_model, monkeypatch):
    monkeypatch.setattr("widthprune.prefix_lm.BATCH_TOKENS", batch_tokens)
    window = {"sliding_window": 512} if family == "gemma3" else {}
    model = tiny_model(family, vocab_size=300, max_position_embeddings=1024, **window)
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    options = dict(pretrained=model, tokenizer=tokenizer, batch_size=3, softmax_dtype="float32")
    expected = HFLM(**options).loglikelihood(requests(), disable_tqdm=True)
    found = PrefixLM(**options).loglikelihood(requests(), disable_tqdm=True)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    # float32 sums over up to 400 tokens of about -6 each.
    torch.testing.assert_close(
        torch.tensor([value for value, _ in found]),
        torch.tensor([value for value, _ in expected]),
        atol=1e-3,
        rtol=0,
    )


def test_perplexity_is_that_of_hflm(language_model):
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    model = tiny_model(vocab_size=300, max_position_embeddings=128)
    text = [Instance("loglikelihood_rolling", {}, ("a sentence that goes on " * 30,), 0)]
    options = dict(pretrained=model, tokenizer=tokenizer, softmax_dtype="float32")
    expected = HFLM(**options).loglikelihood_rolling(text, disable_tqdm=True)
    found = PrefixLM(**options).loglikelihood_rolling(text, disable_tqdm=True)
    assert found == pytest.approx(expected, abs=1e-3)


def test_the_prefix_is_read_once(language_model):
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    model = tiny_model(vocab_size=300, max_position_embeddings=1024)
    lengths = []
    model.register_forward_pre_hook(lambda _, args: lengths.append(args[0].numel()))
    lm = PrefixLM(pretrained=model, tokenizer=tokenizer, softmax_dtype="float32")
    lengths.clear()
    lm.loglikelihood(requests()[:12], disable_tqdm=True)
    full = sum(len(tokenizer(context + answer)["input_ids"]) for context, answer in TEXTS[:12])
    assert sum(lengths) < full / 3


def test_groups_by_prefix():
    shared = list(range(MIN_SHARED))
    groups = dict(_by_prefix([(*shared, 1), (*shared, 2), (7, 8)]))
    assert groups == {tuple(shared): [(*shared, 1), (*shared, 2)], (): [(7, 8)]}
