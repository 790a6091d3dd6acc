"""Bias compensation (FLAP, arXiv 2312.11983): what removed neurons added on average goes into a bias."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..calibration import Activations
from ..errors import WidthPruneError
from ..layouts import MLP
from ..mlps import find_mlps, output_columns, text_config, text_fields, twin
from ..pruning import cut_model


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


def cut_with_bias(
    model: nn.Module,
    kept: Mapping[str, Tensor],
    activations: Mapping[str, Activations],
    *,
    inplace: bool = False,
) -> nn.Module:
    """`pruning.cut_model`, and what the removed neurons added on average goes into the output's bias.

    Where the model has no such bias, the config's ``mlp_bias`` is set.

    Parameters
    ----------
    model, kept, inplace
        As for `pruning.cut_model`.
    activations : mapping of str to Activations
        From `calibrate` on this model.

    Raises
    ------
    WidthPruneError
        Before anything is changed: as `pruning.cut_model`, and as `expected_biases`.
    """
    mlps = find_mlps(model)
    changes, expected = expected_biases(model, mlps)
    added = {
        mlp.output.path: mean_contribution(
            output_columns(model, mlp), activations[mlp.name].mean, kept[mlp.name]
        )
        for mlp in mlps
    }
    pruned = cut_model(model, kept, inplace=inplace)
    add_biases(pruned, expected, added)
    for field, value in changes.items():
        setattr(text_config(pruned), field, value)
    return pruned


def expected_biases(model: nn.Module, mlps: Sequence[MLP]) -> tuple[dict, nn.Module]:
    """Fields of the config that give every output projection a bias, and what transformers builds with them.

    Raises
    ------
    WidthPruneError
        If there is no bias and the config cannot declare one, or declares more: it would not load again.
    """
    changes = bias_changes(model, mlps)
    expected = twin(model, changes)
    own, built = dict(model.named_parameters()), dict(expected.named_parameters())
    allowed = {part.tensor.removesuffix("weight") + "bias" for mlp in mlps for part in mlp.parts}
    needed = {f"{mlp.output.path}.bias" for mlp in mlps}
    if wrong := sorted((built.keys() - own.keys() - allowed) | (needed - built.keys())):
        raise WidthPruneError(
            f"with mlp_bias, transformers builds {type(model).__name__} with other tensors than a bias in every MLP "
            f"({wrong[0]}): use a criterion without one, such as FLAP, which removes what FLAP-BIAS does"
        )
    return changes, expected


def bias_changes(model: nn.Module, mlps: Sequence[MLP]) -> dict:
    """Fields of the config that give every output projection a bias: none if it has one.

    ``mlp_bias`` gives a bias to gate and up as well, where it is zero.

    Raises
    ------
    WidthPruneError
        If there is no bias and the config cannot declare one: it would not load again.
    """
    modules = {mlp.name: model.get_submodule(mlp.output.path) for mlp in mlps}
    lacking = [name for name, module in modules.items() if getattr(module, "bias", None) is None]
    if not lacking:
        return {}
    if "mlp_bias" not in text_fields(model):
        raise WidthPruneError(
            f"FLAP-BIAS puts a bias into {lacking[0]}, and the config of {type(model).__name__} has no mlp_bias "
            "to declare one: use FLAP, which removes what FLAP-BIAS does"
        )
    return {"mlp_bias": True}


def add_biases(model: nn.Module, expected: nn.Module, added: Mapping[str, Tensor]) -> None:
    """Add to biases, in place, after slicing.

    Parameters
    ----------
    expected : nn.Module
        What transformers builds from a config with the bias: biases that it has and ``model`` lacks are
        created, as zeros.
    added : mapping of str to Tensor, shape (d_model,)
        `mean_contribution` of every MLP, by the path of its output projection.
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
