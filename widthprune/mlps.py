"""The MLPs of a model in memory: the adapter between layouts and transformers.

`find_mlps` gives `layouts.MLP` objects: names, sizes and parts, no tensors. `input_weights` reads what a
criterion needs, `output_columns` what a neuron writes with.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from .architectures import meta_model
from .errors import WidthPruneError, first_line
from .layouts import MLP, Part, find_layouts
from .slicing import neuron_rows
from .widths import check_family, hidden_size

PRUNABLE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def find_mlps(model: nn.Module) -> list[MLP]:
    """The model's MLPs, in forward order, with weights that can be pruned.

    Raises
    ------
    WidthPruneError
        As `check_layout`; also if the weights are not in memory (device meta).
    """
    mlps = check_layout(model)
    for mlp in mlps:
        for part in mlp.parts:
            if model.get_parameter(part.tensor).device.type == "meta":
                raise WidthPruneError(
                    f"{part.tensor} has no weights in memory (device meta): load them before pruning"
                )
    return mlps


def check_layout(model: nn.Module) -> list[MLP]:
    """Like `find_mlps`, but the weights may be absent: a model on the meta device will do.

    Raises
    ------
    WidthPruneError
        If the model has no MLP of a known layout; if one's weights are quantized, wrapped by an adapter
        or shared with another's; or if its family does more with neurons than add them up.
    """
    owner = type(model).__name__
    if getattr(getattr(model, "config", None), "quantization_config", None) is not None:
        raise WidthPruneError(
            f"{owner} is quantized: load it without quantization, prune, quantize the result"
        )
    config = text_fields(model)
    check_family(config, owner)
    shapes, first_name = {}, {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        shapes[name] = tuple(parameter.shape)
        first_name.setdefault(id(parameter), name)
    mlps = find_layouts(shapes, config.get("model_type", ""), hidden_size(config), owner)
    for mlp in mlps:
        for part in mlp.parts:
            _check_part(model, part)
            first = first_name[id(model.get_parameter(part.tensor))]
            if first != part.tensor:
                raise WidthPruneError(
                    f"{owner}: {first} and {part.tensor} are one tensor, and layers that share an MLP are "
                    "not supported"
                )
    return mlps


def _check_part(model: nn.Module, part: Part) -> None:
    dtype = model.get_parameter(part.tensor).dtype
    module = model.get_submodule(part.path)
    if dtype not in PRUNABLE_DTYPES:
        raise WidthPruneError(
            f"{part.tensor} holds {dtype} weights: load the model without quantization, prune, "
            "quantize the result"
        )
    own = type(module) in (nn.Linear, Conv1D) or (
        # Falcon's and the like: a linear layer under the family's own name.
        isinstance(module, nn.Linear) and type(module).__module__.startswith("transformers.models.")
    )
    if not (own or part.stacked):
        raise WidthPruneError(
            f"{part.path} is {type(module).__name__}, not nn.Linear: merge adapters or undo quantization first"
        )
    if part.role == "bias":
        return
    # What names and shapes said must be what the module does.
    transposed = part.axis == (1 if part.role == "input" else 0)
    truth = getattr(module, "is_transposed", transposed) if part.stacked else isinstance(module, Conv1D)
    alternating = not getattr(module, "is_concatenated", part.packing != "alternating")
    if truth != transposed or (part.role == "input" and alternating != (part.packing == "alternating")):
        raise WidthPruneError(
            f"{part.tensor} is stored in another order than its shape tells: it cannot be pruned"
        )


def check_no_experts(mlps: Sequence[MLP], reason: str) -> None:
    """Refuse mixtures of experts, for the ``reason`` given."""
    if mixed := [mlp.name for mlp in mlps if mlp.experts is not None]:
        raise WidthPruneError(f"{mixed[0]} is a mixture of experts, {reason}")


def input_weights(model: nn.Module, mlp: MLP, expert: int | None = None) -> tuple[Tensor, Tensor | None]:
    """Views (gate, up), each (d_ff, d_model), of one MLP or expert; (up, None) if it has no gate."""
    rows = []
    for part in mlp.of_expert(expert):
        if part.role == "input":
            rows += neuron_rows(part_of(model, part, expert), part)
    return (*rows, None)[:2]


def output_columns(model: nn.Module, mlp: MLP) -> Tensor:
    """View (d_ff, d_model) of the output projection of an MLP without experts."""
    return neuron_rows(part_of(model, mlp.output), mlp.output)[0]


def part_of(model: nn.Module, part: Part, expert: int | None = None) -> Tensor:
    """The tensor of a part, or one expert's slab of it, outside of autograd."""
    tensor = model.get_parameter(part.tensor).detach()
    return tensor[expert] if part.stacked else tensor


def text_config(model: nn.Module):
    """The config of the language model; a multimodal one has it inside its own."""
    try:
        return model.config.get_text_config()
    except (AttributeError, ValueError):
        raise WidthPruneError(
            f"{type(model).__name__} has no single text config, so that its width cannot be declared: "
            "it cannot be pruned"
        ) from None


def text_fields(model: nn.Module) -> dict:
    """The fields of `text_config`, as config.json holds them."""
    return text_config(model).to_dict()


def twin(model: nn.Module, changes: Mapping) -> nn.Module:
    """What transformers builds, without weights, from the model's config with fields changed.

    Raises
    ------
    WidthPruneError
        If it cannot be built.
    """
    try:
        return meta_model(model.config, changes, type(model))
    except Exception as error:
        raise WidthPruneError(
            f"{type(model).__name__} cannot be built with {dict(changes)}: {first_line(error)}"
        ) from error


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, and without gradients of weights, inside the block; afterwards as it was."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    training = model.training
    try:
        model.eval().requires_grad_(False)
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        model.train(training)


def threads(count: int | None = None) -> ThreadPoolExecutor:
    """Workers for several MLPs at a time, as many as torch has threads."""
    # numpy and much of torch's indexing use one thread each: more MLPs use the others.
    return ThreadPoolExecutor(count or torch.get_num_threads())
