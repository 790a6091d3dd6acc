"""Tiny random-weight models with true architectures; nothing is downloaded."""

import shutil

import matplotlib
import pytest
import torch
from families import byte_tokenizer
from matplotlib import pyplot as plt
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
)

matplotlib.use("Agg")

SMALL = dict(
    hidden_size=32,
    intermediate_size=88,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    vocab_size=97,
    max_position_embeddings=64,
)
CONFIGS = {
    "llama": lambda **k: LlamaConfig(**{**SMALL, **k}),
    "llama-mlp-bias": lambda **k: LlamaConfig(**{**SMALL, "mlp_bias": True, **k}),
    "qwen2": lambda **k: Qwen2Config(**{**SMALL, **k}),
    "mistral": lambda **k: MistralConfig(**{**SMALL, **k}),
    "gemma": lambda **k: GemmaConfig(**{**SMALL, **k}),
    "gemma3": lambda **k: Gemma3TextConfig(**{**SMALL, "sliding_window": 8, **k}),
}


def tiny_model(family="llama", dtype=torch.float32, seed=0, **overrides):
    """A seeded model in evaluation mode; biases are drawn too, since transformers starts them at zero."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[family](**overrides)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.02)
    return model.to(dtype)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def llama():
    return tiny_model("llama")


@pytest.fixture(params=CONFIGS)
def any_model(request):
    return tiny_model(request.param)


@pytest.fixture(scope="session")
def language_model(tmp_path_factory):
    """Directory of a tiny Llama with a byte-level tokenizer of its own: any text can be evaluated."""
    directory = tmp_path_factory.mktemp("language_model")
    byte_tokenizer().save_pretrained(directory)
    tiny_model(vocab_size=300, max_position_embeddings=2048).save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="session")
def chat_model(language_model, tmp_path_factory):
    """Directory of the same model, its tokenizer with a chat template."""
    directory = tmp_path_factory.mktemp("chat") / "model"
    shutil.copytree(language_model, directory)
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for turn in messages %}[{{ turn.role }}]{{ turn.content }}{% endfor %}[answer]"
    )
    tokenizer.save_pretrained(directory)
    return str(directory)


@torch.no_grad()
def logits(model, seed=1):
    """Logits (2, 10, vocab) of a fixed random batch."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, SMALL["vocab_size"], (2, 10), generator=generator)
    return model(tokens).logits
