"""Calibration: the text, the sums over it, and that the model is left as it was."""

import json

import pytest
import torch
from conftest import tiny_model
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, MixtralConfig

from widthprune import WidthPruneError, load_model
from widthprune.calibration import Activations, Calibration, calibrate
from widthprune.pocket import DEFAULT_TEXT
from widthprune.pocket.generate import DATA

TEXT = Calibration(["the question and the answer", "of the test", "the test of the answer and the question"])


@pytest.fixture(scope="module")
def loaded(language_model):
    model, tokenizer = load_model(language_model)
    return model.double(), tokenizer


def test_sums_by_hand():
    sums = Activations.zeros(2)
    sums.add(torch.tensor([[[1.0, -2], [3, 0]]]))
    sums.add(torch.tensor([[[-1.0, 5]]]))
    assert (sums.tokens, sums.sequences) == (3, 2)
    assert sums.total.tolist() == [3, 3] and sums.absolute.tolist() == [5, 7]
    assert sums.squares.tolist() == [11, 29]
    assert sums.squared_means.tolist() == [2**2 + 1, 1 + 5**2]
    assert sums.mean.tolist() == [1, 1] and sums.variance.tolist() == [4, 13]


def test_variance_of_half_precision_far_from_zero():
    # The mean is a thousand standard deviations: float32 sums would lose the variance altogether.
    x = (1000 + torch.randn(1, 500, 3, generator=torch.Generator().manual_seed(0))).double()
    sums = Activations.zeros(3)
    for token in x[0]:
        sums.add(token[None, None])
    torch.testing.assert_close(sums.variance, x[0].var(dim=0), rtol=1e-7, atol=0)


def test_equals_what_a_padded_batch_computes(loaded):
    # The reference runs all sequences at once, padded, and picks the real tokens with the mask.
    model, tokenizer = loaded
    sequences = TEXT.token_sequences(tokenizer)
    assert len(set(map(len, sequences))) > 1
    tokens = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    mask = torch.arange(tokens.shape[1])[None] < torch.tensor([len(s) for s in sequences])[:, None]
    seen = {}
    handles = [
        layer.mlp.down_proj.register_forward_hook(
            lambda _, inputs, out, name=f"model.layers.{i}.mlp": seen.update({name: inputs[0]})
        )
        for i, layer in enumerate(model.model.layers)
    ]
    with torch.no_grad():
        model(tokens, attention_mask=mask.long())
    for handle in handles:
        handle.remove()
    found = calibrate(model, tokenizer, TEXT)
    assert found.keys() == seen.keys()
    for name, sums in found.items():
        real = seen[name][mask]
        assert sums.tokens == len(real) and sums.sequences == len(sequences)
        torch.testing.assert_close(sums.total, real.sum(dim=0))
        torch.testing.assert_close(sums.absolute, real.abs().sum(dim=0))
        torch.testing.assert_close(sums.squares, real.square().sum(dim=0))
        torch.testing.assert_close(sums.variance, real.var(dim=0))
        means = [row[own].abs().mean(dim=0) for row, own in zip(seen[name], mask, strict=True)]
        torch.testing.assert_close(sums.squared_means, torch.stack(means).square().sum(dim=0))


def test_saliency_is_the_weight_times_its_gradient(loaded):
    # LLM-Pruner's vector-wise importance of a column, from the gradients of the weights themselves.
    model, tokenizer = loaded
    found = calibrate(model, tokenizer, TEXT, gradients=True)
    for sequence in TEXT.token_sequences(tokenizer):
        F.cross_entropy(model(sequence[None]).logits[0, :-1], sequence[1:], reduction="sum").backward()
    for name, sums in found.items():
        weight = model.get_submodule(name).down_proj.weight
        # The norms of transformers run in float32, whatever the model's dtype.
        torch.testing.assert_close(sums.saliency, (weight * weight.grad).sum(dim=0), rtol=1e-4, atol=1e-6)
    model.zero_grad()


@pytest.mark.parametrize("gradients", [False, True])
def test_the_model_is_left_as_it_was(language_model, gradients, monkeypatch):
    model, tokenizer = load_model(language_model)
    model.train()
    model.model.embed_tokens.weight.requires_grad_(False)
    before = {name: (p.clone(), p.requires_grad) for name, p in model.named_parameters()}
    calibrate(model, tokenizer, TEXT, gradients=gradients)
    calls = iter(range(5))
    monkeypatch.setattr(Activations, "add", lambda *_: 1 / (4 - next(calls)))
    with pytest.raises(WidthPruneError, match="ZeroDivisionError"):
        calibrate(model, tokenizer, TEXT, gradients=gradients)
    assert model.training
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, before[name][0], rtol=0, atol=0)
        assert parameter.requires_grad == before[name][1] and parameter.grad is None
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_documents_are_cut_and_drawn(language_model):
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    pieces = Calibration(["a" * 10, "b" * 7], length=4).token_sequences(tokenizer)
    assert [len(piece) for piece in pieces] == [4, 4, 2, 4, 3]
    drawn = [Calibration(["a" * 10, "b" * 7], 3, 4, seed).token_sequences(tokenizer) for seed in range(4)]
    assert all(len(sequences) == 3 for sequences in drawn)
    assert len({str(sequences) for sequences in drawn}) > 1
    assert str(drawn[0]) == str(Calibration(["a" * 10, "b" * 7], 3, 4, 0).token_sequences(tokenizer))


def test_an_opening_token_opens_every_sequence():
    class Opens:
        bos_token_id = 7

        def __call__(self, text, add_special_tokens=True, verbose=True):
            ids = [1 + len(word) for word in text.split()]
            return type("Encoding", (), {"input_ids": [7] * add_special_tokens + ids})

    pieces = Calibration(["a bb ccc dddd eeeee"], length=3).token_sequences(Opens())
    assert [piece.tolist() for piece in pieces] == [[7, 2, 3], [7, 4, 5], [7, 6]]


def test_text_comes_from_files_and_lists(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo")
    lines = '\ufeff{"text": "one"}\r\n\n"two\u2028lines"\n{"page": "three"}\n{"text": " "}\n'
    (tmp_path / "b.jsonl").write_text(lines, encoding="utf-8")
    assert Calibration(tmp_path / "a.txt").documents() == ["one\ntwo"]
    assert Calibration(str(tmp_path / "b.jsonl")).documents() == ["one", "two\u2028lines", "three"]
    assert Calibration(["one"]).documents() == ["one"]


def test_the_default_text_is_not_what_the_pocket_suite_measures():
    ours = Calibration().documents()
    assert 3000 <= sum(len(document.split()) for document in ours) <= 6000
    pages = [json.loads(line)["page"] for line in (DATA / "prose.jsonl").read_text().splitlines()]
    sentences = {s.strip() for page in pages for s in page.split(".") if len(s.split()) > 4}
    assert not any(sentence in document for document in ours for sentence in sentences)
    assert DEFAULT_TEXT.exists()


def test_identity_tells_texts_and_amounts_apart(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    same = Calibration(["one"]).identity()
    assert Calibration(tmp_path / "a.txt").identity() == same
    others = [Calibration(["two"]), Calibration(["one"], sequences=3), Calibration(["one"], length=9)]
    others += [Calibration(["one"], seed=1), Calibration()]
    assert all(other.identity() != same for other in others)


# Bad input: one line.


def refused(match, calibration, tokenizer, model):
    with pytest.raises(WidthPruneError, match=match) as error:
        calibrate(model, tokenizer, calibration)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("empty.txt", b" \n", "empty.txt is empty: give at least one document"),
        ("empty.jsonl", b"\n", "empty.jsonl is empty: give at least one document"),
        ("text.jsonl", b"plain text\n", "text.jsonl is not JSON Lines"),
        ("fields.jsonl", b'{"body": "a"}\n', 'must hold strings, or objects with "text" or "page"'),
        ("deep.jsonl", b"[" * 100_000, "deep.jsonl is not JSON Lines"),
        ("half.jsonl", b'"one \\ud800"\n', "half.jsonl has half of a character"),
        ("latin.txt", "é".encode("latin-1"), "latin.txt is not UTF-8 text"),
        ("absent.txt", None, "absent.txt cannot be read: No such file"),
        ("short.txt", b"a", "gives no sequence of two tokens"),
    ],
)
def test_bad_text(loaded, tmp_path, name, content, match):
    model, tokenizer = loaded
    if content is not None:
        (tmp_path / name).write_bytes(content)
    refused(match, Calibration(tmp_path / name), tokenizer, model)


def test_bad_settings(loaded):
    model, tokenizer = loaded
    refused(
        "calibration sequences must be a whole number of at least 1, got 0",
        Calibration(sequences=0),
        tokenizer,
        model,
    )
    refused("calibration length must be a whole number", Calibration(length=2.5), tokenizer, model)
    refused("needs a tokenizer, and the model's directory holds none", None, None, model)
    long = Calibration(length=3000)
    small = tiny_model(vocab_size=300, max_position_embeddings=64)
    refused("calibration length must be at most the model's 64 positions, got", long, tokenizer, small)


def test_activations_that_overflow(language_model):
    model, tokenizer = load_model(language_model)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.mul_(1e38)
        model.model.layers[1].mlp.gate_proj.weight.mul_(1e38)
    refused(
        "model.layers.1.mlp: activations on the calibration text are NaN or infinite", TEXT, tokenizer, model
    )


def test_experts_are_refused_by_name(language_model):
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    sizes = dict(hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4)
    config = MixtralConfig(**sizes, num_key_value_heads=2, vocab_size=300, num_local_experts=4)
    refused(
        "model.layers.0.mlp.experts is a mixture of experts, whose neurons cannot be listened to",
        TEXT,
        tokenizer,
        AutoModelForCausalLM.from_config(config),
    )
