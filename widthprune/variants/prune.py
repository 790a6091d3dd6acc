"""`widthprune.prune_model`: the paper's method, or a variant of it."""

from collections.abc import Mapping

from torch import Tensor, nn

from .. import pruning
from ..calibration import UNHEARD, Activations
from ..criteria import Criterion, check_across_layers, find_criterion
from ..mlps import check_layout, check_no_experts, find_mlps
from ..scores import check_activations, check_scores, choose_neurons, score_model
from .compensation import cut_with_bias, expected_biases
from .global_widths import STACKED, global_sizes


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
    """Remove the least important neurons of every MLP: `pruning.prune_model` and its variants.

    Parameters
    ----------
    model, pruning_pct, expansion_ratio, size, multiple_of, inplace, seed, scores
        As for `pruning.prune_model`.
    criterion : str
        One of `CRITERIA`, or of `CALIBRATED` with ``activations``; ``PPM`` is the paper's. Under one that
        adds a bias (``FLAP-BIAS``) the means of the activations become a bias of the output projections:
        see `cut_with_bias`.
    activations : mapping of str to Activations, optional
        From `calibrate` on this model, for the criteria that look at data.
    global_widths : bool
        Let neurons compete across layers (`global_sizes`): as many are kept in all as otherwise, but
        each layer keeps a number of its own. Most families cannot be saved then: see `cut_model`.

    Returns
    -------
    PreTrainedModel
        As from `pruning.prune_model`.

    Raises
    ------
    WidthPruneError
        Before anything is changed, if an argument or the model cannot be pruned, or if transformers
        would build another model from the pruned config.
    """
    record = find_criterion(criterion)
    target = dict(
        pruning_pct=pruning_pct, expansion_ratio=expansion_ratio, size=size, multiple_of=multiple_of
    )
    source = dict(seed=seed, activations=activations)
    if not (global_widths or record.adds_bias):
        return pruning.prune_model(model, criterion, **target, **source, scores=scores, inplace=inplace)
    mlps, sizes = find_mlps(model), pruning.target_sizes(model, **target)
    if global_widths:
        check_across_layers(record)
        check_no_experts(mlps, STACKED)
    if record.adds_bias:
        check_activations(mlps, record.name, activations)
        expected_biases(model, mlps)
    if scores is None:
        scores = score_model(model, criterion, **source)
    check_scores(mlps, scores)
    if global_widths:
        sizes = global_sizes({name: scores[name] for name in sizes}, sum(sizes.values()), multiple_of)
    kept = choose_neurons(model, scores, sizes)
    if record.adds_bias:
        return cut_with_bias(model, kept, activations, inplace=inplace)
    return pruning.cut_model(model, kept, inplace=inplace)


def check_variant(model: nn.Module, criterion: Criterion, global_widths: bool = False) -> None:
    """Refuse what `prune_model` would refuse of a model under a criterion, from its shapes: it may have no weights.

    Raises
    ------
    WidthPruneError
        If the model's neurons have no activations of their own, it cannot have a bias, or its layers cannot differ.
    """
    mlps = check_layout(model)
    if criterion.needs_text:
        check_no_experts(mlps, UNHEARD)
    if criterion.adds_bias:
        expected_biases(model, mlps)
    if global_widths:
        check_across_layers(criterion)
        check_no_experts(mlps, STACKED)
