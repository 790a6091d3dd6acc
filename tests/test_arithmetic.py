from types import SimpleNamespace

import pytest
import torch
from conftest import logits, tiny_model

from widthprune import WidthPruneError
from widthprune.models import arithmetic
from widthprune.models.arithmetic import COMPUTE_DTYPES, compute_in, native


@pytest.fixture
def emulated(monkeypatch):
    """A processor on which 16-bit arithmetic takes ten times as long as 32-bit."""
    monkeypatch.setattr(arithmetic, "native", lambda dtype: dtype == torch.float32)


@pytest.fixture
def half():
    return tiny_model(dtype=torch.bfloat16)


def test_where_bfloat16_is_emulated_the_same_weights_compute_in_float32(emulated, half):
    before = {name: weight.clone() for name, weight in half.named_parameters()}
    model = compute_in(half)
    assert model is half and model.dtype == torch.float32
    assert all(torch.equal(before[name].float(), weight) for name, weight in model.named_parameters())
    # The more exact arithmetic: as the rounded weights give in float64, to float32's precision.
    exact = logits(tiny_model(dtype=torch.bfloat16).double())
    assert torch.allclose(logits(model).double(), exact, atol=1e-5)


def test_where_bfloat16_is_native_nothing_changes(monkeypatch, half):
    monkeypatch.setattr(arithmetic, "native", lambda dtype: True)
    assert compute_in(half).dtype == torch.bfloat16


def test_weights_of_float64_are_not_rounded(emulated):
    model = tiny_model(dtype=torch.float64)
    assert compute_in(model) is model and model.dtype == torch.float64


@pytest.mark.parametrize("asked", ["weights", "bfloat16", "float32"])
def test_an_option_overrides_the_choice(emulated, half, asked):
    assert str(compute_in(half, asked).dtype) == f"torch.{'bfloat16' if asked == 'weights' else asked}"


def test_without_the_memory_for_it_the_weights_stay_as_they_are(emulated, half, monkeypatch, capsys):
    monkeypatch.setattr(arithmetic.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    assert compute_in(half).dtype == torch.bfloat16
    assert capsys.readouterr().err.count("\n") == 1


def test_tied_weights_stay_tied(emulated):
    model = compute_in(tiny_model(dtype=torch.bfloat16, tie_word_embeddings=True))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("slower", [torch.bfloat16, torch.float32])
def test_the_choice_falls_on_the_faster(monkeypatch, slower):
    monkeypatch.setattr(arithmetic, "_seconds", lambda dtype: 2.0 if dtype == slower else 1.0)
    assert native.__wrapped__(torch.bfloat16) == (slower == torch.float32)


def test_the_choice_is_always_the_same():
    assert len({native.__wrapped__(torch.bfloat16) for _ in range(20)}) == 1
    assert native(torch.float32)


@pytest.mark.parametrize("asked", ["float16", "bfloat16"])
def test_arithmetic_that_would_round_the_weights_is_refused(asked):
    weights = torch.float32 if asked == "bfloat16" else torch.bfloat16
    with pytest.raises(WidthPruneError, match=f"compute_dtype {asked} would round weights of {weights}"[:40]):
        compute_in(tiny_model(dtype=weights), asked)


def test_an_unknown_name():
    with pytest.raises(WidthPruneError, match=f"compute_dtype must be one of {', '.join(COMPUTE_DTYPES)}"):
        compute_in(tiny_model(), "int8")
