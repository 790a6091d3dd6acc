"""The architectures of the paper, models of any shape without weights or with random ones."""

import copy
from collections.abc import Mapping
from types import MappingProxyType

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig

from .errors import WidthPruneError

# Shapes from the public config files of the models (paper, section 3.1); gated weights are not needed.
_LLAMA_3_2 = dict(
    vocab_size=128256,
    num_key_value_heads=8,
    intermediate_size=8192,
    max_position_embeddings=131072,
    rms_norm_eps=1e-5,
    rope_parameters={
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    tie_word_embeddings=True,
    bos_token_id=128000,
    eos_token_id=128001,
    dtype="bfloat16",
)
_1B = dict(hidden_size=2048, num_hidden_layers=16, num_attention_heads=32, head_dim=64)
_3B = dict(hidden_size=3072, num_hidden_layers=28, num_attention_heads=24, head_dim=128)
SHAPES = {"Llama-3.2-1B": _1B, "Llama-3.2-1B-Instruct": _1B, "Llama-3.2-3B": _3B}


def paper_config(name: str, **changes) -> LlamaConfig:
    """Config of one of the paper's models, with fields changed if wanted.

    >>> paper_config("Llama-3.2-1B", intermediate_size=4916).intermediate_size
    4916
    """
    if name not in SHAPES:
        raise WidthPruneError(f"name must be one of {', '.join(SHAPES)}, got {name!r}")
    return LlamaConfig(**(_LLAMA_3_2 | SHAPES[name] | changes))


def meta_model(config: PretrainedConfig, changes: Mapping = MappingProxyType({}), cls: type | None = None):
    """The model of a config with shapes but no storage (device meta): any size, in seconds.

    Parameters
    ----------
    config : PretrainedConfig
        Left as it is.
    changes : mapping
        Fields of the text config, with other values.
    cls : type, optional
        The model's class; default what transformers takes for a causal language model.
    """
    config = copy.deepcopy(config)
    for field, value in changes.items():
        setattr(config.get_text_config(), field, value)
    with torch.device("meta"):
        model = cls(config) if cls else AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    model.tie_weights()  # transformers 5.0 leaves them untied where they have no storage
    return model


def random_model(config: PretrainedConfig, dtype: str = "auto", device: str = "cpu", seed: int = 0):
    """The model of a config with random weights, drawn from a seed, in evaluation mode."""
    dtype = config.dtype if dtype == "auto" else getattr(torch, dtype)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=dtype).to(device).eval()
