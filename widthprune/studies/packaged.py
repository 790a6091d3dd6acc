"""The studies of models that are loaded by name: from their files, or made now. Nothing heavy is imported until then."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..report.results import public_name
from .pairs import MYTHS, SETS, load_pairs
from .stored import study

REMOVED = (1.0, 5.0, 10.0)
DRAWS = 3
SLICED = (10.0, 20.0)
SLICED_TASKS = ("pocket_prose", "pocket_facts", "pocket_misconceptions_mc2")


def sets_at_hand() -> list[str]:
    """Names of the sets of pairs that can be read: without ``WIDTHPRUNE_DATA`` the package's own alone."""
    return list(SETS) if os.environ.get("WIDTHPRUNE_DATA") else ["pocket"]


def misconceptions(
    model: str,
    results_dir: str | Path = "results",
    *,
    measure: bool,
    limit: int | None = 100,
    seed: int = 0,
    pcts: Sequence[float] = REMOVED,
    draws: int = DRAWS,
    device: str = "cpu",
) -> pd.DataFrame:
    """`widthprune.studies.misconceptions.study_misconceptions` of a model, on the sets that are at hand.

    Parameters
    ----------
    model : str
        As `load_model` takes it.
    results_dir : path
    measure : bool
        If False, a study that is not there is named.
    limit, seed
        Pairs of each set, and what draws them.
    pcts, draws
        Percentages of neurons removed; how often random ones.

    Raises
    ------
    WidthPruneError
        As `load_model`, `load_pairs` and `study`.
    """

    def make() -> pd.DataFrame:
        from ..models.loading import load_model
        from .misconceptions import study_misconceptions

        network, tokenizer = load_model(model, dtype="float32", device=device)
        pairs = {name: load_pairs(name, limit, seed) for name in sets_at_hand()}
        table = study_misconceptions(network, tokenizer, pairs, myths=MYTHS, pcts=pcts, draws=draws)
        return table.assign(model=public_name(model))

    made_by = dict(limit=limit, seed=seed, dtype="float32")
    return study(results_dir, "misconceptions", _file(model), made_by, make, measure=measure)


def slicegpt(
    model: str,
    results_dir: str | Path = "results",
    *,
    measure: bool,
    limit: int | None = None,
    seed: int = 0,
    pcts: Sequence[float] = SLICED,
    tasks: Sequence[str] = SLICED_TASKS,
    calibration=None,
    device: str = "cpu",
) -> pd.DataFrame:
    """`widthprune.studies.equal_size.study_slicegpt` of a model; parameters and errors as of `misconceptions`."""

    def make() -> pd.DataFrame:
        from ..models.loading import load_model
        from .equal_size import study_slicegpt

        network, tokenizer = load_model(model, dtype="float32", device=device)
        text = dict(calibration=calibration)
        table = study_slicegpt(network, tokenizer, pcts, tasks, limit=limit, seed=seed, **text)
        return table.assign(model=public_name(model))

    made_by = dict(limit=limit, seed=seed, dtype="float32")
    return study(results_dir, "slicegpt", _file(model), made_by, make, measure=measure)


def _file(model: str) -> str:
    return public_name(model).split("/")[-1]
