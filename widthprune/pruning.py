"""Prune a model: score every neuron, keep the highest, slice the rest away."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .criteria import check_criterion, score_neurons
from .errors import WidthPruneError
from .glu import find_glus, set_intermediate_size
from .sizes import kept_size
from .slicing import kept_indices, slice_glu


@torch.no_grad()
def score_model(model: nn.Module, criterion: str = "PPM", *, seed: int = 0) -> dict[str, Tensor]:
    """Scores of every GLU MLP of a model, by module name: ``{name: (d_ff,) float32}``.

    Computed once, they serve a whole sweep of ratios through ``prune_model(..., scores=scores)``.
    Under ``RANDOM`` each layer has a permutation of its own, drawn from (seed, layer).
    """
    criterion = check_criterion(criterion)
    scores = {}
    for layer, glu in enumerate(find_glus(model)):
        check_down(glu.name, glu.down.weight)
        scores[glu.name] = score_mlp(glu.name, glu.gate.weight, glu.up.weight, criterion, seed=(seed, layer))
    return scores


def score_mlp(name: str, gate: Tensor, up: Tensor, criterion: str, *, seed: Sequence[int]) -> Tensor:
    """`score_neurons`, with the MLP's name in front of what it refuses."""
    try:
        return score_neurons(gate, up, criterion, seed=seed)
    except WidthPruneError as error:
        raise WidthPruneError(f"{name}: {error}") from None


def check_down(name: str, down: Tensor) -> None:
    """Refuse NaN and infinity in ``down_proj``, which no criterion reads."""
    if not all(bool(extreme.isfinite()) for extreme in down.aminmax()):
        raise WidthPruneError(f"{name}.down_proj must be finite, got NaN or infinity: reload the checkpoint")


@torch.no_grad()
def prune_model(
    model: nn.Module,
    criterion: str = "PPM",
    *,
    pruning_pct: float | None = None,
    expansion_ratio: float | None = None,
    multiple_of: int = 1,
    inplace: bool = False,
    seed: int = 0,
    scores: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Remove the least important neurons of every GLU MLP (paper, section 3.2).

    Parameters
    ----------
    model : PreTrainedModel
        Any transformers model whose MLPs have ``gate_proj``, ``up_proj`` and ``down_proj``.
    criterion : str
        One of `CRITERIA`; ``PPM`` is the paper's.
    pruning_pct, expansion_ratio, multiple_of
        The size to reach: see `kept_size`. Exactly one of the first two.
    inplace : bool
        If False, the model is left as it is, and the result shares with it every tensor that pruning
        does not touch: embeddings, attention and norms exist once, so do not train one of the two.
    seed : int
        For ``RANDOM`` only.
    scores : mapping of str to Tensor, optional
        Scores from `score_model` on this model; ``criterion`` and ``seed`` are then not used.

    Returns
    -------
    PreTrainedModel
        Smaller, with a true config: ``save_pretrained`` then ``from_pretrained`` gives equal logits.

    Raises
    ------
    WidthPruneError
        Before anything is changed, if an argument or the model cannot be pruned.
    """
    glus = find_glus(model)
    size = kept_size(
        glus[0].gate.out_features,
        glus[0].gate.in_features,
        pruning_pct=pruning_pct,
        expansion_ratio=expansion_ratio,
        multiple_of=multiple_of,
    )
    if scores is None:
        scores = score_model(model, criterion, seed=seed)
    elif wrong := [
        g.name for g in glus if g.name not in scores or len(scores[g.name]) != g.gate.out_features
    ]:
        raise WidthPruneError(
            f"scores must come from score_model on this model, got none that fit {wrong[0]}"
        )

    if not inplace:
        model = _shallow_model(model)
        glus = find_glus(model)
    for glu in glus:
        slice_glu(glu, kept_indices(scores[glu.name], size))
    set_intermediate_size(model, glus, size)
    return model


def _shallow_model(model: nn.Module) -> nn.Module:
    """A copy of the modules and the config around the very same parameters and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, memo={id(tensor): tensor for tensor in tensors})
