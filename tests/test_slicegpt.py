"""SliceGPT: nothing is lost at full width, and below it what is lost is what lies outside of the kept axes."""

import pytest
import torch
from conftest import tiny_model

from widthprune.errors import WidthPruneError
from widthprune.studies.slicegpt import (
    NORMS,
    SlicedLayer,
    count,
    fused,
    layer_options,
    matched_width,
    principal_axes,
    slice_model,
    sliced_count,
)

TOKENS = [torch.randint(0, 97, (n,), generator=torch.Generator().manual_seed(n)) for n in (40, 25, 31)]


@pytest.fixture(params=NORMS)
def model(request):
    model = tiny_model(request.param.removesuffix("_text"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return model


@torch.no_grad()
def logits(model, tokens):
    return model(input_ids=tokens[None], use_cache=False).logits[0]


def test_at_full_width_the_logits_are_those_of_the_model(model):
    whole = slice_model(model, TOKENS, 32)
    for tokens in TOKENS:
        torch.testing.assert_close(logits(whole, tokens), logits(model, tokens), atol=2e-5, rtol=1e-4)


def test_generating_with_a_cache_is_reading_the_whole(model):
    narrow = slice_model(model, TOKENS, 20)
    options = dict(max_new_tokens=5, do_sample=False, pad_token_id=0)
    cached, plain = (
        narrow.generate(TOKENS[0][None, :8], use_cache=cache, **options) for cache in (True, False)
    )
    assert torch.equal(cached, plain)


@torch.no_grad()
def test_a_sliced_model_is_one_whose_signals_are_projected(model):
    """In the model's own axes: a signal loses what lies outside of its first principal axes, and no more."""
    width, whole = 20, fused(model)
    inner, size = whole.model, 32
    options = layer_options(whole, TOKENS)
    layers = [SlicedLayer(layer, size, model.config.rms_norm_eps) for layer in inner.layers]
    for layer in layers:
        layer.attention_shortcut = layer.mlp_shortcut = torch.eye(size)

    def projected(signals, keep):
        axes = principal_axes(signals)[:, :keep]
        return [x @ axes @ axes.T for x in signals]

    signals = projected([inner.embed_tokens(tokens[None]) for tokens in TOKENS], width)
    for place, layer in enumerate(layers):
        signals = [layer.attend(x, **own) for x, own in zip(signals, options[place], strict=True)]
        signals = projected(signals, width)
        signals = projected([layer.think(x) for x in signals], size if place == 2 else width)
    expected = [whole.lm_head(inner.norm(x))[0] for x in signals]
    narrow = slice_model(model, TOKENS, width)
    for tokens, own in zip(TOKENS, expected, strict=True):
        torch.testing.assert_close(logits(narrow, tokens), own, atol=2e-5, rtol=1e-4)
        assert (own - logits(model, tokens)).abs().max() > 1e-2


def test_axes_are_those_of_the_second_moment():
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 3.0, 2.0])
    axes = principal_axes([x[:20], x[20:]])
    torch.testing.assert_close(axes.T @ axes, torch.eye(3), atol=1e-6, rtol=0)
    spread = (x @ axes).square().sum(0)
    assert (spread.diff() < 0).all()
    # In these axes the second moment is diagonal.
    moment = (x @ axes).T @ (x @ axes)
    assert (moment - moment.diagonal().diag()).abs().max() < 1e-3


def test_axes_are_found_where_the_signal_is():
    assert principal_axes([torch.empty(1, 5, 3, device="meta")]).device.type == "meta"


def test_parameters_are_counted_from_shapes(model):
    for width in (32, 20, 7):
        narrow = slice_model(model, TOKENS[:1], width)
        for embeddings in (True, False):
            assert count(narrow, embeddings) == sliced_count(model, width, embeddings)


def test_the_largest_width_of_a_size():
    model = tiny_model("llama", tie_word_embeddings=True)
    for width in (5, 20, 32):
        parameters = sliced_count(model, width)
        assert matched_width(model, parameters) == width
        assert matched_width(model, parameters - 1) == width - 1
    # Shortcuts and a head of its own make it larger: cut by a tenth it has more than it had.
    assert sliced_count(model, 29) > count(model)
    assert matched_width(model, 100) is None


def test_the_model_is_left_as_it_was(model):
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    slice_model(model, TOKENS[:1], 10)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


def test_what_cannot_be_sliced():
    with pytest.raises(WidthPruneError, match="kinds llama, .* here, got gemma, .*: choose a model of one"):
        slice_model(tiny_model("gemma"), TOKENS, 20)
