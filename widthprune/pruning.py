"""Prune a model: score every neuron, keep the highest, slice the rest away."""

import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from .activation_criteria import score_activations
from .calibration import Activations
from .criteria import check_across_layers, find_criterion
from .errors import WidthPruneError
from .layouts import MLP
from .mlps import find_mlps, input_weights, part_of, text_config, text_fields, twin
from .slicing import kept_indices, slice_part, slice_stacked
from .variants.compensation import add_biases, bias_changes, check_biases, contributions, output_columns
from .variants.global_widths import check_no_experts, forbid_saving, global_sizes, listed_units
from .weight_criteria import score_neurons
from .widths import config_changes, find_widths, kept_sizes, kept_units


def score_model(
    model: nn.Module,
    criterion: str = "PPM",
    *,
    seed: int = 0,
    activations: Mapping[str, Activations] | None = None,
) -> dict[str, Tensor]:
    """Scores of every MLP of a model, by module name: ``(d_ff,)``, of experts ``(experts, d_ff)``, float32.

    Computed once, they serve a whole sweep of ratios through ``prune_model(..., scores=scores)``.
    Under ``RANDOM`` each layer, and each expert, has a permutation of its own, drawn from (seed, layer).
    The criteria of `CALIBRATED` look at data: they need ``activations`` from `calibrate` on this model.
    """
    record = find_criterion(criterion)
    mlps = find_mlps(model)
    if record.needs_text:
        return _score_calibrated(model, mlps, record.name, activations)

    def score(layer: int, mlp: MLP) -> Tensor:
        own = []
        for expert in mlp_experts(mlp):
            for part in mlp.of_expert(expert):
                if part.role == "output":
                    check_output(part.tensor, part_of(model, part, expert))
            gate, up = input_weights(model, mlp, expert)
            own.append(score_mlp(mlp.name, gate, up, criterion, seed=mlp_seed(seed, layer, expert)))
        return own[0] if mlp.experts is None else torch.stack(own)

    with _threads() as pool:
        return dict(zip((mlp.name for mlp in mlps), pool.map(score, range(len(mlps)), mlps), strict=True))


def _threads(count: int | None = None) -> ThreadPoolExecutor:
    # numpy and much of torch's indexing use one thread each: several MLPs at a time use the others.
    return ThreadPoolExecutor(count or torch.get_num_threads())


def _score_calibrated(model, mlps, criterion, activations) -> dict[str, Tensor]:
    check_activations(mlps, criterion, activations)
    scores = {}
    for mlp in mlps:
        columns = output_columns(model, mlp)
        check_output(f"{mlp.name}.{mlp.layout.output}", columns)
        inputs = [weight for weight in input_weights(model, mlp) if weight is not None]
        scores[mlp.name] = score_activations(activations[mlp.name], inputs, columns.T, criterion)
    return scores


def check_activations(mlps: Sequence[MLP], criterion: str, activations) -> None:
    """Refuse a criterion that looks at data without this model's activations."""
    if activations is None:
        raise WidthPruneError(
            f"criterion {criterion} looks at data: give activations=calibrate(model, tokenizer)"
        )
    if wrong := [m.name for m in mlps if m.name not in activations or activations[m.name].d_ff != m.size]:
        raise WidthPruneError(
            f"activations must come from calibrate on this model, got none that fit {wrong[0]}"
        )


def mlp_experts(mlp: MLP) -> Sequence[int | None]:
    """The numbers of an MLP's experts; (None,) if it has none."""
    return (None,) if mlp.experts is None else range(mlp.experts)


def mlp_seed(seed: int, layer: int, expert: int | None) -> tuple[int, ...]:
    """The seed of one MLP's or expert's permutation; ``layer`` is its place among `find_mlps`."""
    return (seed, layer) if expert is None else (seed, layer, expert)


def score_mlp(name: str, gate: Tensor, up: Tensor | None, criterion: str, *, seed: Sequence[int]) -> Tensor:
    """`score_neurons`, with the MLP's name in front of what it refuses."""
    try:
        return score_neurons(gate, up, criterion, seed=seed)
    except WidthPruneError as error:
        raise WidthPruneError(f"{name}: {error}") from None


def check_output(name: str, weight: Tensor) -> None:
    """Refuse NaN and infinity in an output projection, which no criterion reads."""
    if not all(bool(extreme.isfinite()) for extreme in weight.aminmax()):
        raise WidthPruneError(
            f"{name.removesuffix('.weight')} must be finite, got NaN or infinity: reload the checkpoint"
        )


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
    global_widths: bool = False,
) -> nn.Module:
    """Remove the least important neurons of every MLP (paper, section 3.2).

    Every expert of a mixture keeps the same number of neurons, each its own; routers stay whole. An MLP
    without a gate is scored by its one input projection.

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
        For ``RANDOM`` only.
    scores : mapping of str to Tensor, optional
        Scores from `score_model` on this model; ``criterion`` and ``seed`` then score nothing.
    activations : mapping of str to Activations, optional
        From `calibrate` on this model, for the criteria that look at data. Under ``FLAP-BIAS`` their
        means also become a bias of the output projections; where the model has none, the config's
        ``mlp_bias`` is set, and a family without that field is refused.
    global_widths : bool
        Let neurons compete across layers (`global_sizes`): as many are kept in all as otherwise, but
        each layer keeps a number of its own. Unless the config lists a size for every layer (Gemma-3n),
        transformers cannot load such a model, so ``save_pretrained`` of the result refuses.

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
    record = find_criterion(criterion)
    criterion, compensate = record.name, record.adds_bias
    mlps = find_mlps(model)
    widths = find_widths(mlps, text_fields(model), type(model).__name__)
    target = dict(pruning_pct=pruning_pct, expansion_ratio=expansion_ratio, size=size)
    units = kept_units(mlps, widths, **target, multiple_of=multiple_of)
    sizes = kept_sizes(mlps, widths, units)
    changes, expected = _declared(model, mlps, units, sizes)
    if global_widths:
        check_across_layers(record)
        check_no_experts(mlps)
    if compensate:
        check_activations(mlps, criterion, activations)
        changes |= bias_changes(model, mlps)
    if scores is None:
        scores = score_model(model, criterion, seed=seed, activations=activations)
    elif wrong := [m.name for m in mlps if m.name not in scores or scores[m.name].shape[-1] != m.size]:
        raise WidthPruneError(
            f"scores must come from score_model on this model, got none that fit {wrong[0]}"
        )
    listed = None
    if global_widths:
        sizes = global_sizes({m.name: scores[m.name] for m in mlps}, sum(sizes.values()), multiple_of)
        listed = listed_units(widths, sizes)
        if listed:
            own, expected = _declared(model, mlps, listed, sizes)
            changes |= own
    if compensate:
        expected = twin(model, changes)
        check_biases(model, mlps, expected)

    if not inplace:
        model = _shallow_model(model)
    kept = {mlp.name: kept_indices(scores[mlp.name], sizes[mlp.name]) for mlp in mlps}
    added = contributions(model, mlps, activations, kept) if compensate else {}

    def cut(mlp: MLP) -> None:
        cut_mlp(model, mlp, kept[mlp.name], expected)

    # In place, one after another: never more than one MLP is in memory twice.
    with _threads(1 if inplace else None) as pool:
        list(pool.map(cut, mlps))
    if compensate:
        add_biases(model, expected, added)
    for field, value in changes.items():
        setattr(text_config(model), field, value)
    if global_widths and not listed:
        forbid_saving(model, widths, sizes)
    return model


def _declared(model, mlps, units, sizes) -> tuple[dict, nn.Module]:
    """What the config will say, and the model that transformers would build from it; checked."""
    changes = config_changes(text_fields(model), units)
    expected = twin(model, changes)
    check_twin(model, mlps, sizes, expected)
    return changes, expected


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
        path, _, attribute = part.tensor.rpartition(".")
        module = model.get_submodule(path)
        old = getattr(module, attribute)
        if part.stacked:
            data = slice_stacked(old.detach(), part, kept)
        else:
            data = slice_part(old.detach(), part, kept if part.expert is None else kept[part.expert])
        # A new Parameter: the old one may be shared with the unpruned model and stays as it is.
        setattr(module, attribute, nn.Parameter(data, requires_grad=old.requires_grad))
    paths = {part.tensor.rpartition(".")[0] for part in mlp.parts} | {mlp.name}
    for path in paths | {path.rpartition(".")[0] for path in paths}:
        mine, other = model.get_submodule(path), expected.get_submodule(path)
        for name, value in vars(mine).items():
            if type(value) is int and value != getattr(other, name, value) and value % mlp.size == 0:
                setattr(mine, name, value // mlp.size * size)


def _shallow_model(model: nn.Module) -> nn.Module:
    """A copy of the modules and the config around the very same parameters and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, memo={id(tensor): tensor for tensor in tensors})
