"""SliceGPT, and heads beside neurons, at the size of width pruning: the same benchmarks on models of as many parameters."""

import itertools
import tempfile
from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import nn

from ..calibration import Calibration, calibrate
from ..errors import WidthPruneError
from ..evaluation.engine.choice import choose
from ..evaluation.measure import measure
from ..evaluation.suites import Benchmark, find_benchmarks
from ..mlps import find_mlps
from ..pruning import prune_model, target_sizes
from ..report.tasks import TASKS
from ..scores import score_model
from .heads import lowest_groups, parameters_of, score_groups, without_groups
from .slicegpt import check, count, matched_width, slice_model, sliced_count
from .stored import AGAINST

SIZES = {"all": True, "without embeddings": False}  # which parameters are counted


def pruned_count(
    model: nn.Module, pruning_pct: float | None = None, embeddings: bool = True, *, size: int | None = None
) -> int:
    """Parameters that width pruning leaves, by a percentage or to a size, from the sizes alone."""
    sizes = target_sizes(model, pruning_pct=pruning_pct, size=size)
    each = {
        mlp.name: sum(model.get_parameter(part.tensor).numel() for part in mlp.parts if part.role != "bias")
        for mlp in find_mlps(model)
    }
    gone = sum(each[m.name] // m.size * (m.size - sizes[m.name]) for m in find_mlps(model))
    return count(model, embeddings) - gone


def study_slicegpt(
    model: nn.Module,
    tokenizer,
    pcts: Sequence[float],
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    seed: int = 0,
    calibration: Calibration | None = None,
) -> pd.DataFrame:
    """Benchmarks on models sliced to the size that width pruning reaches at each percentage.

    Parameters
    ----------
    model : PreTrainedModel
        As `slice_model` takes it; left as it was.
    pcts : sequence of float
        Percentages of neurons whose size is matched.
    tasks : sequence of str
    limit, seed
        Items of each, drawn as `widthprune.evaluation.evaluate.evaluate` draws them.
    calibration : Calibration, optional
        What axes are found on; default the package's own text.

    Returns
    -------
    DataFrame
        ``counted`` (which parameters), ``pruning_pct``, ``width`` and ``parameters`` of the sliced model, ``task``, ``metric``,
        ``value``, ``stderr``, ``n``. Benchmarks are those of the model matched without embeddings, where most of a small
        model's parameters are not. Of all parameters a row says the width, 0 where none is as small.
    """
    check(model)
    sequences = (calibration or Calibration()).token_sequences(tokenizer)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        benchmarks = find_benchmarks(tasks, scratch) if tasks else []
        for pct in pcts:
            for counted, embeddings in SIZES.items():
                width = matched_width(model, pruned_count(model, pct, embeddings), embeddings) or 0
                parameters = sliced_count(model, width, embeddings) if width else 0
                key = dict(counted=counted, pruning_pct=pct, width=width, parameters=parameters)
                rows.append(key | dict(task="", metric="width", value=float(width), stderr=float("nan"), n=0))
                if width and not embeddings:
                    # Without a name for it, it is gone before the next one is made.
                    found = scores(slice_model(model, sequences, width), tokenizer, benchmarks, limit, seed)
                    rows += [key | row for row in found]
    return pd.DataFrame(rows)


def matched_size(model: nn.Module, parameters: int) -> int:
    """Neurons of each MLP, the same number, with which width pruning leaves at most so many parameters.

    Raises
    ------
    WidthPruneError
        If a single neuron leaves more.
    """
    size = find_mlps(model)[0].size
    each = count(model) - pruned_count(model, size=size - 1)
    kept = size + min(0, (parameters - count(model)) // each)
    if kept < 1:
        raise WidthPruneError(f"width pruning leaves more than {parameters:,} parameters: remove less")
    return kept


def study_heads(
    model: nn.Module,
    tokenizer,
    pcts: Sequence[float],
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    seed: int = 0,
    calibration: Calibration | None = None,
) -> pd.DataFrame:
    """Benchmarks under AMP with attention heads, which go by key-value group, without those groups, and of neurons alone at equal size.

    Parameters
    ----------
    model : PreTrainedModel
        As `widthprune.studies.heads.find_groups` knows it; left as it was.
    pcts : sequence of float
        Percentages, of each layer's neurons and of all groups: AMP has one for both.
    tasks : sequence of str
    limit, seed
        Items of each, drawn as `widthprune.evaluation.evaluate.evaluate` draws them.
    calibration : Calibration, optional
        What neurons and groups are scored on; default the package's own text.

    Returns
    -------
    DataFrame
        ``removed`` ("nothing", "these neurons", "neurons and groups", "neurons"), ``pruning_pct`` whose size it has, ``groups``
        removed, ``neurons`` kept in each layer, ``parameters`` as if groups were cut, ``task``, ``metric``, ``value``, ``stderr``, ``n``.
        The metrics of ``AGAINST`` are `paired_change` of the headline metric to neurons and groups, from the same neurons
        alone and from neurons alone of as many parameters.

    Raises
    ------
    WidthPruneError
        As `find_groups`, `lowest_groups` and `matched_size`.
    """
    calibration = calibration or Calibration()
    groups = score_groups(model, calibration.token_sequences(tokenizer))
    removed = {
        pct: lowest_groups(groups, pct) for pct in pcts
    }  # what cannot be removed is told before anything is measured
    neurons = score_model(model, "AMP", activations=calibrate(model, tokenizer, calibration))
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        benchmarks = find_benchmarks(tasks, scratch)

        def measured(network: nn.Module, parameters: int | None = None, **key) -> dict[str, list[dict]]:
            key |= dict(neurons=find_mlps(network)[0].size, parameters=parameters or count(network))
            found = answers(network, tokenizer, benchmarks, limit, seed)
            rows.extend(key | dict(task=task) | row for task, (own, _) in found.items() for row in own)
            return {task: records for task, (_, records) in found.items()}

        measured(model, removed="nothing", pruning_pct=0.0, groups=0)
        for pct, gone in removed.items():
            narrow = prune_model(model, pruning_pct=pct, scores=neurons)
            parameters = count(narrow) - parameters_of(narrow, gone)
            others = {"these neurons": measured(narrow, removed="these neurons", pruning_pct=pct, groups=0)}
            key = dict(removed="neurons and groups", pruning_pct=pct, groups=sum(map(len, gone.values())))
            both = measured(without_groups(narrow, gone), parameters, **key)
            key |= dict(neurons=find_mlps(narrow)[0].size, parameters=parameters)
            del narrow  # before the next one is made
            alone = dict(size=matched_size(model, parameters), scores=neurons)
            named = dict(removed="neurons", pruning_pct=pct, groups=0)
            others["neurons"] = measured(prune_model(model, **alone), **named)
            for (name, other), (task, records) in itertools.product(others.items(), both.items()):
                change, stderr = paired_change(other[task], records, TASKS[task].metric)
                compared = dict(task=task, metric=AGAINST[name], n=len(records))
                rows.append(key | compared | dict(value=change, stderr=stderr))
    return pd.DataFrame(rows)


def paired_change(before: Sequence[dict], after: Sequence[dict], metric: str) -> tuple[float, float]:
    """Change of a metric between two models on the same items, with the standard error of the differences item by item.

    Of a perplexity it is the change of its logarithm, the mean over words; words of one text are not independent, texts are.
    """
    pairs = [(one[metric], other[metric]) for one, other in zip(before, after, strict=True)]
    if metric == "word_perplexity":  # of each text its log-likelihood and its words
        (ones, words), (others, _) = (np.asarray(own, float).T for own in zip(*pairs, strict=True))
        differences = ones - others
    else:
        ones, others = np.asarray(pairs, float).T
        differences, words = others - ones, np.ones(len(pairs))
    change = differences.sum() / words.sum()
    if len(pairs) < 2:  # of one item there is no spread
        return float(change), float("nan")
    spread = (differences - change * words).std(ddof=1)  # their mean is zero
    return float(change), float(spread * len(pairs) ** 0.5 / words.sum())


def scores(
    model: nn.Module, tokenizer, benchmarks: Sequence[Benchmark], limit: int | None, seed: int
) -> list[dict]:
    """Task, metric, value, standard error and items of every benchmark on a model in memory."""
    found = answers(model, tokenizer, benchmarks, limit, seed)
    return [dict(task=task) | row for task, (rows, _) in found.items() for row in rows]


def answers(
    model: nn.Module, tokenizer, benchmarks: Sequence[Benchmark], limit: int | None, seed: int
) -> dict[str, tuple[list[dict], list[dict]]]:
    """`widthprune.evaluation.measure.measure` of every benchmark on a model in memory: its rows and records, by task."""
    options = dict(batch_size=8, softmax_dtype="float32")
    lm = choose(model, tokenizer, **options)(pretrained=model, tokenizer=tokenizer, **options)
    return {benchmark.task: measure(lm, benchmark, limit, seed) for benchmark in benchmarks}
