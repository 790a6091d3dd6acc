"""Plans of pruning: from headers and config alone."""

import subprocess
import sys

import pytest
import torch
from conftest import tiny_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GptOssConfig

from widthprune import WidthPruneError
from widthprune.checkpoints.plans import open_checkpoint

# Of one family for each way to store a matrix: the bias, and the shape that it must have.
BIASES = {
    "model.layers.0.mlp.up_proj.bias": (88,),
    "model.layers.0.mlp.down_proj.bias": (32,),
    "model.layers.0.mlp.experts.gate_up_proj_bias": (4, 96),
    "model.layers.0.mlp.experts.down_proj_bias": (4, 16),
}


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("declared", [True, False])
def test_a_bias_of_another_shape(bias, declared, tmp_path):
    """Also one that numpy would not miss: of a longer one, or one with an axis more, entries are taken all the same."""
    if "experts" in bias:
        config = GptOssConfig(
            hidden_size=16, intermediate_size=48, num_hidden_layers=1, num_local_experts=4, vocab_size=97,
            num_attention_heads=2, num_key_value_heads=2, head_dim=8,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(config)
    else:
        model = tiny_model("llama-mlp-bias" if declared else "llama")
    model.save_pretrained(tmp_path)
    *experts, length = BIASES[bias]
    for shape in [(), (0,), (40,), (2 * length,), (length, 2), (*experts, length + 1), (1, *experts, length)]:
        tensors = load_file(tmp_path / "model.safetensors")
        save_file(tensors | {bias: torch.zeros(shape)}, tmp_path / "model.safetensors")
        with pytest.raises(WidthPruneError) as caught:
            open_checkpoint(tmp_path)
        assert str(caught.value).startswith(f"{bias} has shape {shape} and must have {BIASES[bias]}, as ")
    save_file(tensors | {bias: torch.zeros(BIASES[bias])}, tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path).mlps


def test_a_plan_imports_no_torch(language_model):
    code = (
        "import sys; from pathlib import Path; from widthprune.checkpoints.plans import make_plan, open_checkpoint; "
        "print(make_plan(open_checkpoint(Path(sys.argv[1])), 'PPM', bytes_free=0, pruning_pct=40)[0].size_after, "
        "'torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, language_model], capture_output=True, text=True)
    assert done.stdout.split() == ["53", "False"]
