"""Controls: models that should know nothing, and comparisons at equal damage rather than equal width."""

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..errors import WidthPruneError
from ..models.loading import load_model
from ..report.results import one_sweep
from ..report.tasks import TASKS
from ..scores import kept_indices, score_model
from ..sizes import kept_size
from .evidence import Evidence, NoEvidence


def random_initialised(model: str, directory: str | Path, *, seed: int = 0) -> Path:
    """Save a model of the same architecture and tokenizer whose weights are drawn anew, and return where.

    The weights are drawn as the model's own code does before training. A directory that is there already
    is taken as it is.
    """
    directory = Path(directory)
    if (directory / "config.json").exists():
        return directory
    trained, tokenizer = load_model(model)
    if tokenizer is None:
        raise WidthPruneError(f"model {model} has no tokenizer, so its random twin cannot be asked anything")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn = type(trained)(trained.config)
    drawn.to(trained.dtype).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def different_neurons(model: str, pruning_pcts, first: str = "PPM", second: str = "MAW") -> pd.DataFrame:
    """`same_neurons` of two criteria at several percentages, from the weights alone."""
    network, _ = load_model(model)
    scores, others = score_model(network, first), score_model(network, second)
    rows = [same_neurons(scores, others, pct) for pct in pruning_pcts]
    return pd.DataFrame(rows).assign(model=model, first=first, second=second)


def same_neurons(scores: Mapping[str, Tensor], others: Mapping[str, Tensor], pruning_pct: float) -> dict:
    """How far two criteria agree on what to remove from one model.

    Parameters
    ----------
    scores, others : mapping of str to Tensor, shape (d_ff,)
        Scores of every MLP under two criteria, from `widthprune.score_model`.
    pruning_pct : float, in [0, 100)

    Returns
    -------
    dict
        ``shared``: part of the neurons removed by the first that the second removes too, over all
        layers; ``by_chance``: what independent choices would share; ``ties``: layers in which the
        first criterion's scores tie across the cut, so that the index decides; ``layers``.
    """
    removed = shared = neurons = ties = 0
    for name, first in scores.items():
        size = kept_size(len(first), 1, pruning_pct=pruning_pct)
        ones, twos = (torch.ones(len(first), dtype=torch.bool) for _ in range(2))
        ones[kept_indices(first, size)] = False
        twos[kept_indices(others[name], size)] = False
        neurons, removed = neurons + len(first), removed + int(ones.sum())
        shared += int((ones & twos).sum())
        ties += bool(ones.any()) and bool(first[ones].max() == first[~ones].min())
    return {
        "pruning_pct": pruning_pct,
        "shared": shared / removed if removed else 1.0,
        "by_chance": removed / neurons,
        "ties": ties,
        "layers": len(scores),
    }


def same_damage(
    table: pd.DataFrame,
    task: str,
    *,
    damage: str = "pocket_prose",
    perplexities=None,
) -> pd.DataFrame:
    """A benchmark under every criterion at equal perplexity, where the criteria left different widths.

    Between the ratios that were measured, the score is interpolated linearly in the logarithm of the
    perplexity; beyond them it is left empty, never extrapolated.

    Parameters
    ----------
    table : DataFrame
        Measured rows of one model, several criteria, the unpruned model included.
    task : str
        The benchmark to compare, by its headline metric.
    damage : str
        The perplexity that says how damaged a model is.
    perplexities : sequence of float, optional
        Where to compare; default five steps from the unpruned model's to the largest that all reach.

    Returns
    -------
    DataFrame
        One row a criterion, draw and perplexity: ``criterion``, ``neuron_seed``, ``perplexity``, ``value``.
    """
    rows = one_sweep(table)
    curves = {}
    whole = _curve(rows[rows["criterion"] == "none"], task, damage)
    if len(whole) != 1:
        raise WidthPruneError(f"comparing {task} at equal damage needs it and {damage} on one unpruned model")
    pruned = rows[rows["criterion"] != "none"]
    for key, group in pruned.groupby(["criterion", "neuron_seed"], dropna=False):
        curve = pd.concat([whole, _curve(group, task, damage)]).sort_values("damage")
        if len(curve) > 1:
            curves[key] = curve
    if not curves:
        raise WidthPruneError(f"no criterion was measured on both {task} and {damage}")
    if perplexities is None:
        reach = min(curve["damage"].max() for curve in curves.values())
        perplexities = np.geomspace(whole["damage"].iloc[0], reach, 5)
    found = []
    for (criterion, neuron_seed), curve in curves.items():
        log, at = np.log(curve["damage"]), np.log(np.asarray(perplexities, float))
        # A shade of tolerance: the ends are themselves measured perplexities.
        at = np.where(np.abs(at - log.max()) < 1e-9, log.max(), at)
        value = np.interp(at, log, curve["value"], left=np.nan, right=np.nan)
        found += [
            {"criterion": criterion, "neuron_seed": neuron_seed, "perplexity": p, "value": v}
            for p, v in zip(perplexities, value, strict=True)
        ]
    return pd.DataFrame(found)


def rival_table(
    evidence: Evidence, tasks: Sequence[str], others: Sequence[str], one: str = "PPM"
) -> pd.DataFrame:
    """Criteria against ``one``, over the same items and with both errors, wherever one of the two leaves a working model.

    Returns
    -------
    DataFrame
        ``model``, ``benchmark``, ``criterion``, ``pruned`` (%), and ``z``, by how many standard errors the criterion is
        better than ``one``.
    """
    rows = []
    for model in evidence.models():
        for task, other in itertools.product(tasks, others):
            for pct in sorted([*evidence.widths(model, one), *evidence.broken(model, one)]):
                with contextlib.suppress(NoEvidence):
                    effect = evidence.better(model, task, other, one, pct)
                    rows.append((model, TASKS[task].label, other, pct, effect.z))
    return pd.DataFrame(rows, columns=["model", "benchmark", "criterion", "pruned", "z"])


def _curve(rows: pd.DataFrame, task: str, damage: str) -> pd.DataFrame:
    by = {
        name: rows[(rows["task"] == t) & (rows["metric"] == TASKS[t].metric)].set_index("pruning_pct")[
            "value"
        ]
        for name, t in (("damage", damage), ("value", task))
    }
    both = pd.concat(by, axis=1, join="inner")
    return both[np.isfinite(both).all(axis=1)]
