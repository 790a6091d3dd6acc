"""Tiny random models of every family that transformers can build: the same small numbers for all."""

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

# By the names that configs use; a config takes those it has.
SMALL = dict(
    vocab_size=97, max_position_embeddings=64, n_positions=64, sliding_window=8, pad_token_id=0,
    hidden_size=32, n_embd=32, d_model=32, word_embed_proj_dim=32, embedding_size=32, lru_width=32,
    num_hidden_layers=3, n_layer=3, n_layers=3, num_layers=3, decoder_layers=3, encoder_layers=1,
    num_attention_heads=4, n_head=4, n_heads=4, num_heads=4, decoder_attention_heads=4, encoder_attention_heads=4,
    num_key_value_heads=2, head_dim=8, rotary_dim=8,
    intermediate_size=88, ffn_dim=88, decoder_ffn_dim=88, encoder_ffn_dim=72, ffn_hidden_size=88,
    n_inner=88, d_inner=88, dff=88, dim_ff=88,
    moe_intermediate_size=40, shared_expert_intermediate_size=56, shared_intermediate_size=56,
    moe_shared_expert_intermediate_size=56, intermediate_size_mlp=104, dense_intermediate_size=72,
    num_experts=4, num_local_experts=4, n_routed_experts=4, moe_num_experts=4,
    num_experts_per_tok=2, moe_k=2, moe_topk=2, n_group=1, topk_group=1, first_k_dense_replace=1,
    n_shared_experts=2, moe_num_shared_experts=2, num_shared_experts=2,
    q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8,
    mamba_d_state=8, mamba_n_heads=4, mamba_d_head=16, mamba_expand=2, mamba_n_groups=1,
    linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8,
    is_decoder=True,
)  # fmt: skip
# What some families need besides.
LATENT = dict(head_dim=None, num_key_value_heads=4)
OWN = {
    "axk1": LATENT,
    "axk2": LATENT,
    "bamba": dict(attn_layer_indices=[1]),
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "deepseek_v32": LATENT,
    "falcon_h1": dict(mamba_d_ssm=64),
    "gemma3n_text": dict(
        intermediate_size=88,
        num_kv_shared_layers=0,
        activation_sparsity_pattern=[0.0] * 3,
        vocab_size_per_layer_input=97,
    ),
    "gemma4_text": dict(vocab_size_per_layer_input=300),
    "glm4_moe_lite": LATENT,
    "glm_moe_dsa": LATENT,
    "gpt_neo": dict(attention_types=[[["global"], 3]]),
    "granitemoehybrid": dict(layer_types=["mamba", "attention", "mamba"]),
    "jamba": dict(attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=0),
    "longcat_flash": LATENT | dict(expert_ffn_hidden_size=40),
    "mamba2": dict(head_dim=16),
    "minicpm3": LATENT,
    "mpt": dict(expansion_ratio=4),
    "qwen3_next": dict(num_hidden_layers=4),
}


def tiny_family(model_type: str, seed: int = 0, **changes):
    """A seeded model in evaluation mode; every parameter is drawn, so that no bias is zero by accident."""
    given = AutoConfig.for_model(model_type).to_dict()
    # A bool may stand where others have a number, and a list where others have one for all layers.
    fields = {k: v for k, v in SMALL.items() if k in given and not isinstance(given[k], list)}
    fields |= OWN.get(model_type, {}) | changes
    # None takes a number back: the config then computes its own.
    config = AutoConfig.for_model(model_type, **{k: v for k, v in fields.items() if v is not None})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = name.endswith("norm.weight") or ".ln_" in name
            parameter.normal_(mean=float(norm), std=0.15 if parameter.ndim > 1 else 0.05)
    return model


def tiny_decoder(config_class, seed: int = 0, **changes):
    """A seeded model of any class that `transformers.MODEL_FOR_CAUSAL_LM_MAPPING` knows, by rules for all.

    Numbers of the config and of those inside it are replaced by name; a class that wants others is not
    built, and neither is one that stays above ten million parameters.
    """
    config = config_class(**_shrunk(config_class().to_dict(), config_class.model_type) | changes)
    with torch.device("meta"):
        size = sum(each.numel() for each in AutoModelForCausalLM.from_config(config).parameters())
    if size > 1e7:
        raise ValueError(f"{size / 1e6:.0f} million parameters with the tests' small numbers")
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15)
            elif name.endswith("bias"):
                parameter.normal_(std=0.05)
    return model


def _shrunk(given: dict, model_type: str) -> dict:
    small = SMALL | {"vocab_size": 300, "max_position_embeddings": 512, "n_positions": 512}
    fields = {k: v for k, v in small.items() if k in given and not isinstance(given[k], list | dict)}
    layers = given.get("num_hidden_layers")
    for name, value in given.items():
        if isinstance(value, list) and len(value) == layers:  # one for each layer, of which three stay
            fields[name] = [value[0], value[layers // 2], value[-1]]
        elif isinstance(value, dict) and value.get("model_type"):
            fields[name] = _shrunk(value, value["model_type"]) | {"model_type": value["model_type"]}
    return {k: v for k, v in (fields | OWN.get(model_type, {})).items() if v is not None}


def byte_tokenizer():
    """A tokenizer of 300 tokens in which every text has tokens of its own."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["the question and the answer of the test"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
