"""Prune a model: score every neuron, choose the highest, cut the rest away, write the size down."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .calibration import Activations
from .criteria import find_criterion
from .errors import WidthPruneError
from .layouts import MLP
from .mlps import find_mlps, text_config, text_fields, threads, twin
from .scores import choose_neurons, score_model
from .slicing import slice_part, slice_stacked
from .widths import Width, common_units, config_changes, find_widths, kept_sizes, kept_units


def prune_model(
    model: nn.Module,
    criterion: str = "PPM",
    *,
    pruning_pct: float | None = None,
    expansion_ratio: float | None = None,
    size: int | None = None,
    multiple_of: int = 1,
    inplace: bool = False,
    seed: int = 0,
    scores: Mapping[str, Tensor] | None = None,
    activations: Mapping[str, Activations] | None = None,
) -> nn.Module:
    """Remove the least important neurons of every MLP (paper, section 3.2).

    Every expert of a mixture keeps the same number of neurons, each its own; routers stay whole. An MLP
    without a gate is scored by its one input projection. `widthprune.prune_model` adds variants to this.

    Parameters
    ----------
    model : PreTrainedModel
        Any transformers model whose MLPs have one of `layouts.LAYOUTS`.
    criterion : str
        One of `CRITERIA`, or of `CALIBRATED` with ``activations``; ``PPM`` is the paper's.
    pruning_pct, expansion_ratio, size, multiple_of
        The size to reach: see `kept_size`. Exactly one of the first three. Where dense layers, experts
        and shared experts have sizes of their own, ``pruning_pct`` applies to each, and
        the other two are refused. Experts keep a multiple of 8 neurons at least, rounded up, as
        transformers' grouped matrix multiplication needs.
    inplace : bool
        If False, the model is left as it is, and the result shares with it every tensor that pruning
        does not touch: embeddings, attention and norms exist once, so do not train one of the two.
    seed : int
        For criteria that are drawn, such as ``RANDOM``.
    scores : mapping of str to Tensor, optional
        Scores from `score_model` on this model; ``criterion`` and ``seed`` then score nothing.
    activations : mapping of str to Activations, optional
        From `calibrate` on this model, for the criteria that look at data.

    Returns
    -------
    PreTrainedModel
        Smaller, with a true config: ``save_pretrained`` then ``from_pretrained`` gives equal logits.

    Raises
    ------
    WidthPruneError
        Before anything is changed, if an argument or the model cannot be pruned, or if transformers
        would build another model from the pruned config.
    """
    if find_criterion(criterion).adds_bias:
        raise WidthPruneError(
            f"criterion {criterion} adds a bias to what it cuts: use widthprune.prune_model"
        )
    target = dict(pruning_pct=pruning_pct, expansion_ratio=expansion_ratio, size=size)
    sizes = target_sizes(model, **target, multiple_of=multiple_of)
    if scores is None:
        scores = score_model(model, criterion, seed=seed, activations=activations)
    kept = choose_neurons(model, scores, sizes)
    return cut_model(model, kept, inplace=inplace)


def target_sizes(model: nn.Module, **target) -> dict[str, int]:
    """Neurons that each MLP, or each of its experts, is to keep, by its name.

    Parameters
    ----------
    model : PreTrainedModel
    target
        ``pruning_pct``, ``expansion_ratio`` or ``size``, and ``multiple_of``: see `kept_units`, also for
        what is refused.
    """
    mlps = find_mlps(model)
    widths = find_widths(mlps, text_fields(model), type(model).__name__)
    return kept_sizes(mlps, widths, kept_units(mlps, widths, **target))


def cut_model(model: nn.Module, kept: Mapping[str, Tensor], *, inplace: bool = False) -> nn.Module:
    """Keep some neurons of every MLP, cut the others away, and let the config tell the new sizes.

    Parameters
    ----------
    model : PreTrainedModel
    kept : mapping of str to Tensor, shape (size,) or (experts, size), int64
        For every MLP, by the name that `find_mlps` gives it, the neurons to keep, in ascending order.
        The size may differ from layer to layer. Unless the config has a field for each (Gemma-3n's list),
        transformers cannot load such a model, so ``save_pretrained`` of the result refuses.
    inplace : bool
        As for `prune_model`.

    Returns
    -------
    PreTrainedModel

    Raises
    ------
    WidthPruneError
        Before anything is changed: if ``kept`` does not fit the model, or if transformers would build
        another model from the pruned config.
    """
    mlps = find_mlps(model)
    check_kept(mlps, kept)
    widths = find_widths(mlps, text_fields(model), type(model).__name__)
    sizes = {mlp.name: kept[mlp.name].shape[-1] for mlp in mlps}
    units = common_units(mlps, widths, sizes)
    uniform = kept_sizes(mlps, widths, units)
    changes = config_changes(text_fields(model), units)
    expected = twin(model, changes)
    check_twin(model, mlps, uniform, expected)
    if not inplace:
        model = shallow_model(model)
    # In place, one after another: never more than one MLP is in memory twice.
    with threads(1 if inplace else None) as pool:
        list(pool.map(lambda mlp: cut_mlp(model, mlp, kept[mlp.name], expected), mlps))
    for field, value in changes.items():
        setattr(text_config(model), field, value)
    if sizes != uniform:
        forbid_saving(model, widths, sizes)
    return model


def check_kept(mlps: Sequence[MLP], kept: Mapping[str, Tensor]) -> None:
    """Refuse neurons that an MLP does not have, or that are not named once and in order."""
    for mlp in mlps:
        own = kept.get(mlp.name, torch.empty(0))
        experts = () if mlp.experts is None else (mlp.experts,)
        fits = own.dtype == torch.int64 and own.shape[:-1] == experts and own.numel() > 0
        if not fits or own.min() < 0 or own.max() >= mlp.size or not bool((own.diff() > 0).all()):
            raise WidthPruneError(
                f"kept must hold, for {mlp.name}, ascending numbers (int64) of some of its {mlp.size} neurons"
            )


def check_twin(model: nn.Module, mlps: Sequence[MLP], sizes: Mapping[str, int], expected: nn.Module) -> None:
    """Refuse if ``expected``, built from the pruned config, is not the model that pruning will make."""
    planned = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    for mlp in mlps:
        for part in mlp.parts:
            planned[part.tensor] = part.pruned_shape(planned[part.tensor], sizes[mlp.name])
    built = {name: tuple(parameter.shape) for name, parameter in expected.named_parameters()}
    for name in planned.keys() | built.keys():
        if planned.get(name) != built.get(name):
            raise WidthPruneError(
                f"{type(model).__name__}: from the pruned config transformers builds {name} of shape "
                f"{built.get(name)}, pruning makes {planned.get(name)}: it cannot be pruned"
            )


def cut_mlp(model: nn.Module, mlp: MLP, kept: Tensor, expected: nn.Module) -> None:
    """Keep the neurons ``kept`` of one MLP, in place.

    Parameters
    ----------
    kept : Tensor, shape (size,) or (experts, size), int64
        The size may differ from layer to layer.
    expected : nn.Module
        The model of `twin` for some smaller width: numbers in which its modules differ from ``model``'s
        depend on the width (``out_features``, ``intermediate_size``), and become true here.
    """
    size = kept.shape[-1]
    for part in mlp.parts:
        old = model.get_parameter(part.tensor)
        if part.stacked:
            data = slice_stacked(old.detach(), part, kept)
        else:
            data = slice_part(old.detach(), part, kept if part.expert is None else kept[part.expert])
        # A new Parameter: the old one may be shared with the unpruned model and stays as it is.
        attribute = part.tensor.rpartition(".")[2]
        setattr(
            model.get_submodule(part.path), attribute, nn.Parameter(data, requires_grad=old.requires_grad)
        )
    paths = {part.path for part in mlp.parts} | {mlp.name}
    for path in paths | {path.rpartition(".")[0] for path in paths}:
        _resize_fields(model.get_submodule(path), expected.get_submodule(path), mlp.size, size)


def _resize_fields(module: nn.Module, expected: nn.Module, old: int, new: int) -> None:
    """Set the module's own numbers, such as ``out_features``, that follow the width: those that differ in ``expected``.

    Each is the width or a whole multiple of it, as of gate and up in one matrix.
    """
    for name, value in vars(module).items():
        if type(value) is int and value != getattr(expected, name, value) and value % old == 0:
            setattr(module, name, value // old * new)


def shallow_model(model: nn.Module) -> nn.Module:
    """A copy of the modules and the config around the very same parameters and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, memo={id(tensor): tensor for tensor in tensors})


def unsaveable(model: nn.Module, widths: Mapping[str, Width]) -> str:
    """One line for a model whose config has one size for all layers."""
    fields = ", ".join(dict.fromkeys(width.field for width in widths.values()))
    return (
        f"{type(model).__name__} with a width of its own in each layer cannot be saved: "
        f"{type(text_config(model)).__name__} has one {fields} for all layers, and transformers could not "
        "load it again; prune it without global widths"
    )


def forbid_saving(model: nn.Module, widths: Mapping[str, Width], sizes: Mapping[str, int]) -> None:
    """Let the config tell the true sizes, and ``save_pretrained`` refuse a model that would not reload."""
    # Not by setattr, which newer transformers check against the field's type: the list is the truth.
    vars(text_config(model))[next(iter(widths.values())).field] = list(sizes.values())
    reason = unsaveable(model, widths)

    def refuse(*args, **options):
        raise WidthPruneError(reason)

    model.save_pretrained = refuse
