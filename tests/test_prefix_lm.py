"""PrefixLM: the log-likelihoods of lm-eval's own HFLM, from fewer tokens."""

from functools import cache

import pytest
import torch
from conftest import tiny_model
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer

from widthprune.evaluation.engine import attention, decoding
from widthprune.evaluation.engine.prefix_lm import MIN_SHARED, PrefixLM, _by_prefix
from widthprune.evaluation.engine.threads import readers

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


def both(model, tokenizer_directory, **options):
    """lm-eval's own class and ours, on one model."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_directory)
    options = dict(pretrained=model, tokenizer=tokenizer, softmax_dtype="float32") | options
    return HFLM(**options), PrefixLM(**options)


@pytest.fixture(params=[1, 3])
def threads(request):
    """One thread that reads every text, and three that read some each."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
@pytest.mark.parametrize("batch_tokens", [64, 16384])
def test_same_as_hflm(family, batch_tokens, threads, language_model, monkeypatch):
    monkeypatch.setattr("widthprune.evaluation.engine.prefix_lm.BATCH_TOKENS", batch_tokens)
    # Some texts fit the window and some do not.
    window = {"sliding_window": 200} if family == "gemma3" else {}
    model = tiny_model(family, vocab_size=300, max_position_embeddings=1024, **window)
    stock, ours = both(model, language_model, batch_size=3)
    expected = stock.loglikelihood(requests(), disable_tqdm=True)
    found = ours.loglikelihood(requests(), disable_tqdm=True)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    # float32 sums over up to 400 tokens of about -6 each.
    torch.testing.assert_close(
        torch.tensor([value for value, _ in found]),
        torch.tensor([value for value, _ in expected]),
        atol=1e-3,
        rtol=0,
    )


def test_the_models_own_attention_is_back_afterwards(language_model):
    model = tiny_model(vocab_size=300, max_position_embeddings=1024)
    _, ours = both(model, language_model)
    ours.loglikelihood(requests()[:4], disable_tqdm=True)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("logits", [21 * 300, 2**28])
def test_perplexity_is_that_of_hflm(logits, family, threads, language_model, monkeypatch):
    monkeypatch.setattr("widthprune.evaluation.engine.prefix_lm.LOGITS", logits)
    window = {"sliding_window": 20} if family == "gemma3" else {}
    model = tiny_model(family, vocab_size=300, max_position_embeddings=128, **window)
    texts = ["a sentence that goes on " * 30, "a short one", "and another that goes on " * 20]
    asked = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(texts)]
    stock, ours = both(model, language_model)
    expected = stock.loglikelihood_rolling(asked, disable_tqdm=True)
    found = ours.loglikelihood_rolling(asked, disable_tqdm=True)
    assert found == pytest.approx(expected, abs=1e-3)
    assert ours.batch_size == stock.batch_size


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_perplexity_in_blocks_of_bfloat16(family, language_model, monkeypatch):
    monkeypatch.setattr(
        "widthprune.evaluation.engine.prefix_lm.LOGITS", 80 * 300 * readers(torch.device("cpu"))
    )
    window = {"sliding_window": 20} if family == "gemma3" else {}
    model = tiny_model(family, vocab_size=300, max_position_embeddings=512, **window).bfloat16()
    text = [Instance("loglikelihood_rolling", {}, ("a sentence that goes on " * 30,), 0)]
    stock, ours = both(model, language_model)
    blocks = []
    monkeypatch.setattr(
        attention, "_in_blocks", lambda *args, plain=attention._in_blocks: blocks.append(1) or plain(*args)
    )
    (expected,), (found,) = (lm.loglikelihood_rolling(text, disable_tqdm=True) for lm in (stock, ours))
    assert blocks
    # 700 tokens of about -6 each, in numbers of three digits.
    assert found == pytest.approx(expected, rel=1e-3)


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


PROMPTS = [f"{SHOTS}Question: is {thing} old?\nAnswer:" for thing in ("the sun", "a", "tea")]
PROMPTS += ["alone", "alone", "two", "x" * 1200]  # a duplicate, one that is cut from the left


def writer(family):
    # A window shorter than most prompts: padding inside a row would change what it sees.
    window = {"sliding_window": 16} if family == "gemma3" else {}
    return tiny_model(family, vocab_size=300, max_position_embeddings=1024, **window)


def to_write(until):
    arguments = {"until": [*until], "max_gen_toks": 25, "do_sample": False}
    return [Instance("generate_until", {}, (p, dict(arguments)), i) for i, p in enumerate(PROMPTS)]


@cache  # it knows nothing of our batches and threads
def written_by_hflm(family, until, tokenizer_directory):
    stock, _ = both(writer(family), tokenizer_directory, batch_size=1)
    return stock.generate_until(to_write(until), disable_tqdm=True)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
@pytest.mark.parametrize("slots", [64, 2**17])
@pytest.mark.parametrize("until", [(), ("e", "zq")])
def test_generation_is_that_of_hflm(family, slots, until, threads, language_model, monkeypatch):
    monkeypatch.setattr("widthprune.evaluation.engine.decoding.slots", lambda model: slots)
    monkeypatch.setattr(
        "widthprune.evaluation.engine.decoding.ROOM", 8
    )  # an answer outgrows it several times
    _, ours = both(writer(family), language_model, batch_size=1)
    expected = written_by_hflm(family, until, language_model)
    assert len(set(expected)) > 3
    assert ours.generate_until(to_write(until), disable_tqdm=True) == expected


def test_a_batch_fills_the_cache_in_bytes():
    # Keys and values of two layers, two heads of 16 each; four bytes, then two.
    model = tiny_model(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16)
    assert decoding.slots(model) == int(1.5e9 / (2 * 2 * 2 * 16 * 4))
    assert decoding.slots(model.half()) == int(1.5e9 / (2 * 2 * 2 * 16 * 2))
    assert decoding.slots(model.to("meta")) == int(3e9 / (2 * 2 * 2 * 16 * 2))


def test_generation_ends_at_the_end_token(language_model):
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    model = tiny_model(vocab_size=300, max_position_embeddings=1024)
    asked = [Instance("generate_until", {}, (p, {"until": [], "max_gen_toks": 30}), 0) for p in PROMPTS[:6]]
    options = dict(pretrained=model, tokenizer=tokenizer, batch_size=1, softmax_dtype="float32")
    free = PrefixLM(**options)
    free._end_tokens = list
    texts = free.generate_until(asked, disable_tqdm=True)
    # The token that comes third in one answer ends every answer that has it.
    model.generation_config.eos_token_id = [tokenizer.encode(texts[0])[2]]
    ended = PrefixLM(**options).generate_until(asked, disable_tqdm=True)
    assert ended == HFLM(**options).generate_until(asked, disable_tqdm=True) != texts


@pytest.mark.parametrize(
    ("change", "arguments"),
    [
        ({"repetition_penalty": 1.5}, {}),
        ({"no_repeat_ngram_size": 2}, {}),
        ({}, {"do_sample": True, "temperature": 0.7}),
        ({}, {"num_beams": 2}),
    ],
)
def test_what_is_not_plain_greedy_search_goes_through_hflm(change, arguments, language_model):
    model = tiny_model(vocab_size=300, max_position_embeddings=1024)
    model.generation_config.update(**change)
    arguments = {"until": ["zq"], "max_gen_toks": 20, **arguments}
    asked = [Instance("generate_until", {}, (p, dict(arguments)), i) for i, p in enumerate(PROMPTS[:4])]
    stock, ours = both(model, language_model, batch_size=1)
    torch.manual_seed(0)
    expected = stock.generate_until(asked, disable_tqdm=True)
    torch.manual_seed(0)
    assert ours.generate_until(asked, disable_tqdm=True) == expected
