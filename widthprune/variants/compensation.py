"""Bias compensation (FLAP, arXiv 2312.11983): what removed neurons added on average goes into a bias."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..calibration import Activations
from ..errors import WidthPruneError
from ..layouts import MLP
from ..mlps import output_module, part_of, text_fields
from ..slicing import neuron_rows


def mean_contribution(columns: Tensor, mean: Tensor, kept: Tensor) -> Tensor:
    """The sum over removed neurons of W_j mean_t(x_tj).

    Parameters
    ----------
    columns : Tensor, shape (d_ff, d_model)
        Row j is the column of ``down_proj`` that neuron j writes with.
    mean : Tensor, shape (d_ff,)
        Mean activation of every neuron.
    kept : Tensor, shape (size,), int64

    Returns
    -------
    Tensor, shape (d_model,), float32
    """
    removed = torch.ones(len(columns), dtype=torch.bool)
    removed[kept.cpu()] = False
    removed = removed.to(columns.device)
    return mean.float().to(columns.device)[removed] @ columns[removed].float()


def output_columns(model: nn.Module, mlp: MLP) -> Tensor:
    """View (d_ff, d_model) of an MLP's output projection."""
    (part,) = (part for part in mlp.parts if part.role == "output")
    return neuron_rows(part_of(model, part), part)[0]


def bias_changes(model: nn.Module, mlps: Sequence[MLP]) -> dict:
    """Fields of the config that give every output projection a bias: none if it has one.

    ``mlp_bias`` gives a bias to gate and up as well, where it is zero.

    Raises
    ------
    WidthPruneError
        If there is no bias and the config cannot declare one: it would not load again.
    """
    lacking = [mlp.name for mlp in mlps if getattr(output_module(model, mlp), "bias", None) is None]
    if not lacking:
        return {}
    if "mlp_bias" not in text_fields(model):
        raise WidthPruneError(
            f"FLAP-BIAS needs a bias in {lacking[0]}, and the config of {type(model).__name__} has no mlp_bias "
            "to declare one: use FLAP, which removes the same neurons"
        )
    return {"mlp_bias": True}


def check_biases(model: nn.Module, mlps: Sequence[MLP], expected: nn.Module) -> None:
    """Refuse if ``expected``, built from a config with the bias, has other new tensors, or lacks the bias."""
    own, built = dict(model.named_parameters()), dict(expected.named_parameters())
    allowed = {part.tensor.removesuffix("weight") + "bias" for mlp in mlps for part in mlp.parts}
    needed = {_output_path(mlp) + ".bias" for mlp in mlps}
    if wrong := sorted((built.keys() - own.keys() - allowed) | (needed - built.keys())):
        raise WidthPruneError(
            f"FLAP-BIAS: with mlp_bias, transformers builds {type(model).__name__} with other tensors than a bias "
            f"in every MLP ({wrong[0]}): use FLAP, which removes the same neurons"
        )


def _output_path(mlp: MLP) -> str:
    (part,) = (part for part in mlp.parts if part.role == "output")
    return part.tensor.rpartition(".")[0]


def contributions(
    model: nn.Module, mlps: Sequence[MLP], activations: Mapping[str, Activations], kept: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """`mean_contribution` of every MLP, by the path of its output projection; before slicing."""
    return {
        _output_path(mlp): mean_contribution(
            output_columns(model, mlp), activations[mlp.name].mean, kept[mlp.name]
        )
        for mlp in mlps
    }


def add_biases(model: nn.Module, expected: nn.Module, added: Mapping[str, Tensor]) -> None:
    """Add to biases, in place, after slicing.

    Parameters
    ----------
    expected : nn.Module
        What transformers builds from the pruned config: biases that it has and ``model`` lacks are
        created, as zeros.
    added : mapping of str to Tensor, shape (d_model,)
        From `contributions`.
    """
    own = dict(model.named_parameters())
    for name in dict(expected.named_parameters()):
        path, _, attribute = name.rpartition(".")
        if name not in own:
            weight = model.get_submodule(path).weight
            zeros = torch.zeros(len(weight), dtype=weight.dtype, device=weight.device)
            setattr(model.get_submodule(path), attribute, nn.Parameter(zeros))
    for path, contribution in added.items():
        module = model.get_submodule(path)
        # A new Parameter: the old one may be shared with the unpruned model and stays as it is.
        bias = (module.bias.detach().float() + contribution).to(module.bias.dtype)
        module.bias = nn.Parameter(bias, requires_grad=module.bias.requires_grad)
