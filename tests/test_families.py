"""Every family, one at a time: both ways of pruning agree, and pruned equals masked."""

import copy

import pytest
import torch
from conftest import logits
from families import tiny_family
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from widthprune import WidthPruneError, prune_model, score_model
from widthprune.checkpoints.stream import prune_checkpoint
from widthprune.mlps import find_mlps
from widthprune.scores import kept_indices

# Family to the sizes that its config has after 40%: experts keep a multiple of 8.
DENSE = {"intermediate_size": 53}
SHARED = {"moe_intermediate_size": 24, "shared_expert_intermediate_size": 34}
FAMILIES = {
    # gate, up and down apart
    **dict.fromkeys(
        ["llama", "mistral", "ministral3", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo2", "olmo3",
         "smollm3", "stablelm", "granite", "cohere", "cohere2", "exaone4", "helium", "seed_oss", "hunyuan_v1_dense",
         "ernie4_5", "minicpm3", "bamba"],
        DENSE,
    ),
    "lfm2": {"intermediate_size": 154, "block_auto_adjust_ff_dim": False},  # it had rounded 88 up to 256
    "gemma3n_text": {"intermediate_size": [53, 53, 53]},  # one for each layer
    "recurrent_gemma": {"intermediate_size": 54},  # twice the 44 neurons that it has
    # gate and up in one matrix
    **dict.fromkeys(["phi3", "glm", "glm4", "modernbert-decoder"], DENSE),
    # experts
    **dict.fromkeys(["mixtral", "olmoe", "phimoe", "gpt_oss", "granitemoe", "minimax"], {"intermediate_size": 56}),
    "jamba": {"intermediate_size": 56},
    "granitemoehybrid": {"intermediate_size": 56, "shared_intermediate_size": 34},
    "jetmoe": {"intermediate_size": 56},
    "qwen2_moe": SHARED,
    "qwen3_moe": {"moe_intermediate_size": 24},
    "qwen3_next": SHARED,
    "llama4_text": {"intermediate_size": 56},
    "deepseek_v2": {"moe_intermediate_size": 24},
    "deepseek_v3": {**DENSE, "moe_intermediate_size": 24},
    "glm4_moe": {**DENSE, "moe_intermediate_size": 24},
    "ernie4_5_moe": {**DENSE, "moe_intermediate_size": 24},
    # no gate
    **dict.fromkeys(["gpt2", "gptj", "codegen", "gpt_bigcode"], {"n_inner": 53}),
    **dict.fromkeys(["gpt_neox", "gpt_neo", "phi", "starcoder2", "nemotron", "apertus", "arcee", "persimmon"], DENSE),
    "falcon": {"ffn_hidden_size": 53},
    "opt": {"ffn_dim": 53},
    "xglm": {"ffn_dim": 53},
}  # fmt: skip


@torch.no_grad()
def masked(model, pruned, scores):
    """The full-size model in which the activations of pruned neurons meet weights of zero."""
    model = copy.deepcopy(model)
    sizes = {mlp.name: mlp.size for mlp in find_mlps(pruned)}
    for mlp in find_mlps(model):
        outputs = [model.get_parameter(part.tensor) for part in mlp.parts if part.role == "output"]
        kept = kept_indices(scores[mlp.name], sizes[mlp.name]).reshape(mlp.experts or 1, -1)
        for expert, own in enumerate(kept):
            weight = outputs[0][expert] if mlp.experts else outputs[0]
            gone = torch.ones(mlp.size, dtype=torch.bool)
            gone[own] = False
            # Written without the layouts' help: neurons are the axis that is not the hidden size.
            (weight if weight.shape[0] == mlp.size else weight.T)[gone] = 0
    return model


def tensors_of(directory):
    return {
        name: tensor for file in directory.glob("*.safetensors") for name, tensor in load_file(file).items()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_both_ways_agree_and_pruned_equals_masked(family, tmp_path):
    model = tiny_family(family)
    pruned = prune_model(model, pruning_pct=40)
    fields = pruned.config.get_text_config().to_dict()
    assert {field: fields[field] for field in FAMILIES[family]} == FAMILIES[family]

    model.save_pretrained(tmp_path / "source")
    pruned.save_pretrained(tmp_path / "memory")
    prune_checkpoint(tmp_path / "source", tmp_path / "streamed", pruning_pct=40, progress=False)
    found, expected = tensors_of(tmp_path / "streamed"), tensors_of(tmp_path / "memory")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)

    scores = score_model(model)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "streamed").eval()
    # Sums over fewer neurons run in another order: float32 rounding.
    close = dict(rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits(pruned), logits(masked(model, pruned, scores)), **close)
    torch.testing.assert_close(logits(reloaded), logits(pruned), **close)
    # The comparison can fail: masking the other neurons, or none, gives other logits.
    other = masked(model, pruned, {name: -score for name, score in scores.items()})
    for wrong in (other, model):
        assert (logits(wrong) - logits(pruned)).abs().max() > 1e-2


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "phimoe", "minimax"])
def test_experts_in_one_tensor_on_disk(family, tmp_path):
    """Transformers' own names, as save_pretrained writes them if it is asked to."""
    model = tiny_family(family)
    model.save_pretrained(tmp_path / "source", save_original_format=False)
    assert any(".experts.gate_up_proj" in name for name in tensors_of(tmp_path / "source"))
    prune_checkpoint(tmp_path / "source", tmp_path / "streamed", pruning_pct=40, progress=False)
    expected = prune_model(model, pruning_pct=40).state_dict()
    assert all(
        torch.equal(tensor, expected[name]) for name, tensor in tensors_of(tmp_path / "streamed").items()
    )


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss", "gpt2"])
@pytest.mark.parametrize("criterion", ["MAW", "VOW", "PON", "L2", "RANDOM"])
def test_every_criterion(criterion, family, tmp_path):
    model = tiny_family(family)
    model.save_pretrained(tmp_path / "source")
    options = dict(criterion=criterion, pruning_pct=30, seed=4)
    prune_model(model, **options).save_pretrained(tmp_path / "memory")
    prune_checkpoint(tmp_path / "source", tmp_path / "streamed", progress=False, **options)
    expected = tensors_of(tmp_path / "memory")
    assert all(
        torch.equal(tensor, expected[name]) for name, tensor in tensors_of(tmp_path / "streamed").items()
    )


# Refused by name, with what is missing, in both ways.
REFUSED = {
    "mamba": "has no MLP of a known layout",
    "bloom": "config.json says no field for a size, but transformer.h.0.mlp has 128 neurons",
    "mpt": "config.json says no field for a size",
    "bitnet": r"mlp.ffn_sub_norm.weight of shape \(88,\) among the 88 neurons",
    "gemma3n_text": "keeps the neurons above a quantile of all",
}


@pytest.mark.parametrize("family", REFUSED)
def test_refused(family, tmp_path):
    changes = {"activation_sparsity_pattern": [0.95, 0.0, 0.0]} if family == "gemma3n_text" else {}
    model = tiny_family(family, **changes)
    with pytest.raises(WidthPruneError, match=REFUSED[family]) as caught:
        prune_model(model, pruning_pct=40)
    assert type(model).__name__ in str(caught.value) and "\n" not in str(caught.value)
    model.save_pretrained(tmp_path / "source")
    with pytest.raises(WidthPruneError, match=REFUSED[family]):
        prune_checkpoint(tmp_path / "source", tmp_path / "out", pruning_pct=40, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
