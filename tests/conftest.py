"""Tiny random-weight models with true architectures; nothing is downloaded."""

import errno
import gc
import os
import shutil
import weakref

import gguf
import matplotlib
import pytest
import torch
from drawn_numbers import missing_numbers
from families import byte_tokenizer
from matplotlib import pyplot as plt
from safetensors import SafetensorError
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
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


def pytest_collection_finish():
    """What the imports made stays: without it, each collection of garbage would look through all of it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def close_figures():
    """Whatever a test has drawn: its numbers are among the rows that readers can download."""
    yield
    figures = map(plt.figure, plt.get_fignums())
    missing = {figure.number: numbers for figure in figures if len(numbers := missing_numbers(figure))}
    plt.close("all")
    assert not missing


@pytest.fixture
def llama():
    return tiny_model("llama")


@pytest.fixture(params=CONFIGS)
def any_model(request):
    return tiny_model(request.param)


@pytest.fixture(params=[errno.ENOSPC, errno.EDQUOT, errno.EFBIG], ids=errno.errorcode.get)
def full_disk(request, monkeypatch):
    """A disk on which safetensors can write no weights, and what it says of that; the system's words for it."""
    words = os.strerror(request.param)

    def full(self, directory):
        raise SafetensorError(f"Error while serializing: I/O error: {words} (os error {request.param})")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    return words


@pytest.fixture
def one_at_a_time(monkeypatch):
    """Of a module's functions, named, that no model which one of them made is in memory when they make another.

    What waits to be collected is in memory.
    """
    made = []

    def watch(home, name):
        make = getattr(home, name)

        def watched(*arguments, **options):
            assert [own for own in made if own() is not None] == []
            model = make(*arguments, **options)
            made.append(weakref.ref(model))
            return model

        monkeypatch.setattr(home, name, watched)

    gc.collect()
    gc.disable()
    yield watch
    gc.enable()
    assert len(made) >= 2


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


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory):
    """A tiny Llama of 8-bit weights with a tokenizer, in one GGUF file."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def write_gguf(path, layers=1, left_out=()):
    """`gguf_file`, or one that says it has ``layers``, and lacks some of its tensors."""
    torch.manual_seed(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_block_count(layers)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(8)
    words = ["<s>", "</s>", *sorted(ByteLevel.alphabet()), "th", "he"]
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words)
    writer.add_token_types([3, 3] + [1] * (len(words) - 2))  # control, normal
    writer.add_token_merges(["t h", "h e"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    shapes = {
        "token_embd": (len(words), 32),
        "output": (len(words), 32),
        "blk.0.attn_q": (32, 32),
        "blk.0.attn_k": (16, 32),
        "blk.0.attn_v": (16, 32),
        "blk.0.attn_output": (32, 32),
        "blk.0.ffn_gate": (64, 32),
        "blk.0.ffn_up": (64, 32),
        "blk.0.ffn_down": (32, 64),
    }
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, shape in [(name, shape) for name, shape in shapes.items() if name not in left_out]:
        writer.add_tensor(f"{name}.weight", gguf.quantize(torch.randn(shape).numpy(), kind), raw_dtype=kind)
    for name in [
        name for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm") if name not in left_out
    ]:
        writer.add_tensor(f"{name}.weight", torch.ones(32).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@torch.no_grad()
def logits(model, seed=1):
    """Logits (2, 10, vocab) of a fixed random batch."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, SMALL["vocab_size"], (2, 10), generator=generator)
    return model(tokens).logits
