"""From a model to a score for every neuron, and from scores to the neurons that stay."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .activation_criteria import score_activations
from .calibration import Activations
from .criteria import find_criterion
from .errors import WidthPruneError
from .layouts import MLP
from .mlps import find_mlps, input_weights, output_columns, part_of, threads
from .weight_criteria import score_neurons


def score_model(
    model: nn.Module,
    criterion: str = "PPM",
    *,
    seed: int = 0,
    activations: Mapping[str, Activations] | None = None,
) -> dict[str, Tensor]:
    """Scores of every neuron of a model; they serve a whole sweep through ``prune_model(..., scores=scores)``.

    Parameters
    ----------
    model : PreTrainedModel
    criterion : str
        One of `CRITERIA`, or of `CALIBRATED` with ``activations``.
    seed : int
        For criteria that are drawn: under ``RANDOM`` each layer, and each expert, has a permutation of its
        own, drawn from (seed, layer).
    activations : mapping of str to Activations, optional
        From `calibrate` on this model, for the criteria that look at data.

    Returns
    -------
    dict of str to Tensor, shape (d_ff,), of experts (experts, d_ff), float32
        By the MLP's name. The higher, the more important.

    Raises
    ------
    WidthPruneError
        If the criterion is unknown or lacks its activations, the model cannot be pruned, or a weight or a
        score is NaN or infinite.

    Examples
    --------
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = dict(hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2)
    >>> scores = score_model(LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=16)), "L2")
    >>> {name: tuple(own.shape) for name, own in scores.items()}
    {'model.layers.0.mlp': (12,)}
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

    with threads() as pool:
        return dict(zip((mlp.name for mlp in mlps), pool.map(score, range(len(mlps)), mlps), strict=True))


def _score_calibrated(model, mlps, criterion, activations) -> dict[str, Tensor]:
    check_activations(mlps, criterion, activations)
    scores = {}
    for mlp in mlps:
        columns = output_columns(model, mlp)
        check_output(mlp.output.path, columns)
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
    """Refuse NaN and infinity in a weight that criteria may never read, such as an output projection."""
    if weight.numel() and not all(bool(extreme.isfinite()) for extreme in weight.aminmax()):
        raise WidthPruneError(
            f"{name.removesuffix('.weight')} must be finite, got NaN or infinity: reload the checkpoint"
        )


def choose_neurons(
    model: nn.Module, scores: Mapping[str, Tensor], sizes: Mapping[str, int]
) -> dict[str, Tensor]:
    """The neurons of highest score in every MLP, by its name: what `cut_model` keeps.

    Parameters
    ----------
    model : PreTrainedModel
    scores : mapping of str to Tensor
        From `score_model` on this model.
    sizes : mapping of str to int
        How many to keep in each MLP, or in each of its experts.

    Returns
    -------
    dict of str to Tensor, shape (size,) or (experts, size), int64

    Raises
    ------
    WidthPruneError
        If the scores are of another model.
    """
    check_scores(find_mlps(model), scores)
    return {name: kept_indices(scores[name], size) for name, size in sizes.items()}


def check_scores(mlps: Sequence[MLP], scores: Mapping[str, Tensor]) -> None:
    """Refuse scores of another model."""
    if wrong := [
        mlp.name for mlp in mlps if mlp.name not in scores or scores[mlp.name].shape[-1] != mlp.size
    ]:
        raise WidthPruneError(
            f"scores must come from score_model on this model, got none that fit {wrong[0]}"
        )


def kept_indices(scores: Tensor, size: int) -> Tensor:
    """Indices of the ``size`` highest scores, in ascending order.

    Parameters
    ----------
    scores : Tensor, shape (d_ff,) or (experts, d_ff)
    size : int
        How many neurons to keep, 1 to d_ff.

    Returns
    -------
    Tensor, shape (size,) or (experts, size), int64
        Sorted, so the kept neurons stand in their original order. Of equal scores the one with the
        lower index is kept: the same weights always give the same neurons.
    """
    order = torch.argsort(scores, dim=-1, descending=True, stable=True)
    return order[..., :size].sort(dim=-1).values
