"""Weights of four bits: which neurons a criterion then removes, and what that does.

Most packaged models were quantized before they got here. A model whose weights are finer is brought to four bits and back,
and pruned by what either weights say.
"""

import copy
import itertools
import tempfile
from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from gguf import GGMLQuantizationType, quants
from torch import Tensor, nn

from ..errors import WidthPruneError
from ..evaluation.suites import find_benchmarks
from ..pruning import prune_model
from ..scores import score_model
from .equal_size import scores
from .masking import lowest
from .misconceptions import mean_row

FORMAT = GGMLQuantizationType.Q4_0
BLOCK = 32  # weights of a row that share one scale
COLUMNS = (
    *("weights", "chosen_by", "criterion", "pruning_pct", "task", "metric"),
    *("value", "stderr", "n"),
)


def to_four_bits(weight: Tensor) -> Tensor:
    """A matrix as GGUF's Q4_0 stores it, and back: blocks of 32 in a row, sixteen steps of one float16 scale each.

    Parameters
    ----------
    weight : Tensor, shape (rows, columns)

    Returns
    -------
    Tensor
        Of the same shape and dtype.

    Raises
    ------
    WidthPruneError
        If a row is no whole number of blocks.
    """
    if weight.shape[-1] % BLOCK:
        raise WidthPruneError(
            f"rows of {weight.shape[-1]} weights have no blocks of {BLOCK}: choose a model whose sizes are multiples of it"
        )
    coarse = quants.dequantize(quants.quantize(weight.detach().float().cpu().numpy(), FORMAT), FORMAT)
    return torch.from_numpy(coarse).to(weight)


def in_four_bits(model: nn.Module) -> nn.Module:
    """A copy whose linear layers went through `to_four_bits`; embeddings and head stay, as Q4_K_M keeps them finer."""
    model = copy.deepcopy(model)
    head = model.get_output_embeddings()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear) and module is not head:
                module.weight.copy_(to_four_bits(module.weight))
    return model


def changed_rows(
    model: nn.Module, coarse: nn.Module, criteria: Sequence[str], pcts: Sequence[float]
) -> list[dict]:
    """The share of removed neurons that the other weights would keep, the mean over layers; by lot, 1 - pct / 100."""
    rows = []
    for criterion in criteria:
        for pct in pcts:
            ours, theirs = (lowest(one, criterion, pct) for one in (model, coarse))
            shares = [
                1 - torch.isin(own, theirs[mlp]).double().mean() for mlp, own in ours.items() if len(own)
            ]
            key = dict(weights="stored", chosen_by="four bits", task="", metric="changed")
            rows.append(mean_row(shares, criterion=criterion, pruning_pct=pct, **key))
    return rows


def study_four_bits(
    model: nn.Module,
    tokenizer,
    tasks: Sequence[str],
    *,
    criteria: Sequence[str] = ("PPM", "MAW"),
    pcts: Sequence[float] = (10.0, 20.0, 40.0),
    scored_pcts: Sequence[float] = (10.0,),
    limit: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Which neurons change when weights have four bits, and what benchmarks say of it.

    Parameters
    ----------
    model : PreTrainedModel
        With weights finer than four bits; left as it was.
    tasks : sequence of str
    criteria : sequence of str
        That look at weights.
    pcts, scored_pcts : sequence of float
        Percentages of neurons removed: at which choices are compared, and at which benchmarks are measured.
    limit, seed
        Items of each task, drawn as `widthprune.evaluation.evaluate.evaluate` draws them.

    Returns
    -------
    DataFrame
        ``weights`` of the model and what its neurons were ``chosen_by`` ("stored", "four bits"), ``criterion``,
        ``pruning_pct``, ``task``, ``metric``, ``value``, ``stderr``, ``n``. Metric "changed" is of `changed_rows`.

    Raises
    ------
    WidthPruneError
        As `to_four_bits`.
    """
    coarse = in_four_bits(model)
    networks = {"stored": model, "four bits": coarse}
    rows = changed_rows(model, coarse, criteria, pcts)
    with tempfile.TemporaryDirectory() as scratch:
        benchmarks = find_benchmarks(tasks, scratch)
        for weights, chosen_by, criterion, pct in _points(criteria, scored_pcts):
            own = networks[weights]
            if pct:
                own = prune_model(own, pruning_pct=pct, scores=score_model(networks[chosen_by], criterion))
            key = dict(weights=weights, chosen_by=chosen_by, criterion=criterion, pruning_pct=pct)
            rows += [key | row for row in scores(own, tokenizer, benchmarks, limit, seed)]
    return pd.DataFrame(rows)[list(COLUMNS)]


def _points(criteria: Sequence[str], pcts: Sequence[float]) -> Iterator[tuple[str, str, str, float]]:
    # Unpruned with either weights; pruned by the weights' own choice, and stored weights by that of the coarse ones.
    own = [("stored", "stored"), ("four bits", "four bits")]
    yield from ((*pair, "none", 0.0) for pair in own)
    for criterion, pct in itertools.product(criteria, pcts):
        yield from ((*pair, criterion, pct) for pair in [*own, ("stored", "four bits")])
