"""Controls: a model that should know nothing, and how far two criteria choose the same neurons."""

import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ..checkpoints.destination import moved_into_place
from ..errors import WidthPruneError
from ..evaluation.stored import find_stored, refuse
from ..report.runs import public_name
from ..sizes import kept_size

if TYPE_CHECKING:
    from torch import Tensor


def never_trained(
    model: str, tasks: Sequence[str], *, measure: bool, results_dir: str = "results", seed: int = 0, **options
) -> pd.DataFrame:
    """Scores of `random_initialised`, as stored under `twin_name`, or measured where they may be.

    Where they may, the twin is drawn again and its weights identify it: what is stored of the same is not measured.

    Parameters
    ----------
    model, tasks, measure, results_dir, options
        As for `widthprune.evaluation.stored.stored_or_measured`.
    seed : int
        Draws the weights, and the items.

    Raises
    ------
    WidthPruneError
        If a result is missing and may not be measured.
    """
    name = twin_name(model)
    asked = dict(results_dir=results_dir, seed=seed, pruning_pcts=[], **options)
    if measure:
        from ..evaluation.evaluate import evaluate

        with tempfile.TemporaryDirectory() as folder:
            twin = random_initialised(model, Path(folder, name), seed=seed)
            return evaluate(str(twin), tasks, **asked)
    found, missing = find_stored(name, tasks, **asked)
    if missing:
        said = dict(model=model, limit=options.get("limit"), seed=seed, results_dir=results_dir)
        said |= {"device": options.get("device", "cpu")}
        words = [word for parameter, value in said.items() for word in ("-p", parameter, str(value))]
        command = ["papermill", "notebooks/07_controls.ipynb", "out.ipynb", *words]
        refuse(missing, name, results_dir, shlex.join(command))
    return found


def twin_name(model: str) -> str:
    """The name of a model's twin that was never trained: in results, and of its directory.

    >>> twin_name("smollm2-135m-instruct"), twin_name("meta-llama/Llama-3.2-1B")
    ('random-smollm2-135m-instruct', 'random-Llama-3.2-1B')
    """
    return f"random-{public_name(model).split('/')[-1]}"


def random_initialised(model: str, directory: str | Path, *, seed: int = 0) -> Path:
    """Save a model of the same architecture and tokenizer whose weights are drawn anew, and return where.

    The weights are drawn as the model's own code does before training. A directory that is there already
    is taken as it is.
    """
    import torch

    from ..models.loading import load_model

    directory = Path(directory)
    if directory.exists():
        return directory
    trained, tokenizer = load_model(model)
    if tokenizer is None:
        raise WidthPruneError(f"model {model} has no tokenizer, so its random twin cannot be asked anything")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn = type(trained)(trained.config)
    with moved_into_place(directory) as partial:
        drawn.to(trained.dtype).save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    return directory


def different_neurons(model: str, pruning_pcts, first: str = "PPM", second: str = "MAW") -> pd.DataFrame:
    """`same_neurons` of two criteria at several percentages, from the weights alone."""
    from ..models.loading import load_model
    from ..scores import score_model

    network, _ = load_model(model)
    scores, others = score_model(network, first), score_model(network, second)
    rows = [same_neurons(scores, others, pct) for pct in pruning_pcts]
    return pd.DataFrame(rows).assign(model=model, first=first, second=second)


def same_neurons(scores: Mapping[str, "Tensor"], others: Mapping[str, "Tensor"], pruning_pct: float) -> dict:
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
    import torch

    from ..scores import kept_indices

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
