"""SliceGPT beside width pruning at equal size: the same benchmarks on models with the same number of parameters."""

import tempfile
from collections.abc import Sequence

import pandas as pd
from torch import nn

from ..calibration import Calibration
from ..evaluation.engine.choice import choose
from ..evaluation.measure import measure
from ..evaluation.suites import Benchmark, find_benchmarks
from ..mlps import find_mlps
from ..pruning import target_sizes
from .slicegpt import count, matched_width, slice_model, sliced_count

SIZES = {"all": True, "without embeddings": False}  # which parameters are counted


def pruned_count(model: nn.Module, pruning_pct: float, embeddings: bool = True) -> int:
    """Parameters that width pruning leaves, from the sizes alone."""
    sizes = target_sizes(model, pruning_pct=pruning_pct)
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
                    narrow = slice_model(model, sequences, width)
                    rows += [key | row for row in scores(narrow, tokenizer, benchmarks, limit, seed)]
    return pd.DataFrame(rows)


def scores(
    model: nn.Module, tokenizer, benchmarks: Sequence[Benchmark], limit: int | None, seed: int
) -> list[dict]:
    """Task, metric, value, standard error and items of every benchmark on a model in memory."""
    options = dict(batch_size=8, softmax_dtype="float32")
    lm = choose(model, tokenizer, **options)(pretrained=model, tokenizer=tokenizer, **options)
    return [
        dict(task=benchmark.task) | row
        for benchmark in benchmarks
        for row in measure(lm, benchmark, limit, seed)[0]
    ]
