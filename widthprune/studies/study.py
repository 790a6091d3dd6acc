"""The studies on grown models: which there are, and that each is made once. `widthprune.studies.making` makes them.

Reading what was measured imports no torch.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path

import pandas as pd

from ..commands.options import check_writable
from .growing import Recipe, steps_of
from .stored import study

STUDY_NAMES = ("removal", "tuned", "halves", "ranks", "shares", "causal", "attributed")
TUNED_PCTS = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0)


def run(
    recipes: Iterable[Recipe],
    models_dir: str | Path,
    results_dir: str | Path,
    studies: Sequence[str] = STUDY_NAMES,
    *,
    measure: bool = True,
    progress: Callable = print,
) -> None:
    """Those studies of every recipe's models that are not in the results directory yet.

    Models are grown where they are needed, into ``models_dir``; what is there already is used. Without ``measure`` a study
    that is missing is refused.
    """

    @lru_cache(maxsize=1)  # a recipe's studies share its models
    def grown(recipe: Recipe):
        from .making import Grown

        return Grown(recipe, models_dir, progress)

    def make(recipe: Recipe, name: str) -> pd.DataFrame:
        from .making import MAKERS

        check_writable("models_dir must be a folder that can be written", models_dir)
        progress(f"{recipe.name}: {name}")
        return MAKERS[name](grown(recipe)).assign(kind=recipe.kind, seed=recipe.seed)

    for recipe in recipes:
        made_by = asdict(recipe) | dict(steps=steps_of(recipe))
        for name in studies:
            if name == "halves" and recipe.kind != "gated":
                continue
            study(results_dir, name, recipe.key, made_by, partial(make, recipe, name), measure=measure)
