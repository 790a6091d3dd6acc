"""Find the GLU MLPs of a model, and refuse what cannot be pruned: the adapter to transformers.

Everything that knows how a model is laid out stands here. Criteria see tensors and slicing sees
indices, so a new layout touches neither.
"""

from dataclasses import dataclass

import torch
from torch import nn

from .errors import WidthPruneError

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
PRUNABLE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True)
class GLU:
    """One MLP ``down_proj(act(gate_proj(x)) * up_proj(x))`` and its name in the model."""

    name: str
    module: nn.Module

    @property
    def gate(self) -> nn.Linear:
        return self.module.gate_proj

    @property
    def up(self) -> nn.Linear:
        return self.module.up_proj

    @property
    def down(self) -> nn.Linear:
        return self.module.down_proj


def find_glus(model: nn.Module) -> list[GLU]:
    """The model's GLU MLPs, in forward order, with weights that can be pruned.

    Raises
    ------
    WidthPruneError
        If there is none; if one holds quantized, adapter-wrapped or offloaded weights; if its gate
        and up projections differ in size; or if the MLPs and the config disagree about the size.
    """
    glus = check_layout(model)
    for glu in glus:
        for projection in PROJECTIONS:
            if getattr(glu.module, projection).weight.device.type == "meta":
                raise WidthPruneError(
                    f"{glu.name}.{projection} has no weights in memory (device meta): load them before pruning"
                )
    return glus


def check_layout(model: nn.Module) -> list[GLU]:
    """Like `find_glus`, but the weights may be absent: a model on the meta device will do."""
    if getattr(getattr(model, "config", None), "quantization_config", None) is not None:
        raise WidthPruneError(
            f"{type(model).__name__} is quantized: load it without quantization, prune, quantize the result"
        )
    glus = [
        GLU(name, module)
        for name, module in model.named_modules()
        if all(hasattr(module, projection) for projection in PROJECTIONS)
    ]
    if not glus:
        raise WidthPruneError(
            f"{type(model).__name__} has no GLU MLP (gate_proj, up_proj, down_proj): "
            "choose a Llama, Mistral, Qwen2 or Gemma type model"
        )
    for glu in glus:
        _check_glu(glu)
    sizes = {glu.gate.out_features for glu in glus}
    declared = getattr(_text_config(model), "intermediate_size", None)
    if sizes != {declared}:
        raise WidthPruneError(
            f"every MLP must have the config's intermediate_size {declared}, got {sorted(sizes)}: "
            "models with MLPs of several sizes are not supported"
        )
    return glus


def _check_glu(glu: GLU) -> None:
    for projection in PROJECTIONS:
        linear = getattr(glu.module, projection)
        name = f"{glu.name}.{projection}"
        weight = getattr(linear, "weight", None)
        if weight is not None and weight.dtype not in PRUNABLE_DTYPES:
            raise WidthPruneError(
                f"{name} holds {weight.dtype} weights: load the model without quantization, prune, "
                "quantize the result"
            )
        if type(linear) is not nn.Linear:
            raise WidthPruneError(
                f"{name} is {type(linear).__name__}, not nn.Linear: merge adapters or undo quantization first"
            )
    if glu.gate.out_features != glu.up.out_features or glu.gate.out_features != glu.down.in_features:
        raise WidthPruneError(
            f"{glu.name}: gate_proj, up_proj and down_proj must share one intermediate size, got "
            f"{glu.gate.out_features}, {glu.up.out_features} and {glu.down.in_features}"
        )


def set_intermediate_size(model: nn.Module, glus: list[GLU], size: int) -> None:
    """Make the config and every MLP module say the new size, as `from_pretrained` will read it."""
    _text_config(model).intermediate_size = size
    for glu in glus:
        if hasattr(glu.module, "intermediate_size"):
            glu.module.intermediate_size = size


def _text_config(model: nn.Module):
    config = getattr(model, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config
