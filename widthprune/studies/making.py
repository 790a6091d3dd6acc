"""The studies on a grown model, measured: what goes when neurons go, which half does it, and where tuning wrote."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import torch
from torch import nn

from ..mlps import find_mlps
from .growing import STAGES, Recipe, grow, model_directory, world_of
from .masking import WAYS, complement, lowest, means, without
from .misconceptions import study_integrated, study_misconceptions
from .pairs import Pair
from .probing import probe
from .removal import remove
from .study import TUNED_PCTS
from .transplant import change_shares, changes, put_back, rank_correlations
from .worlds import World, heldout

CRITERIA = ("PPM", "PPM-REVERSED", "RANDOM")
HALF_CRITERIA = ("PPM-GATE", "PPM-UP")  # another order than PPM's where there is a gate alone
ATTRIBUTED_PCTS, INTEGRATED = (5.0, 10.0, 20.0), 12  # of few neurons a hundredth is none
HALF_PCTS, HALF_DRAWS = (10.0, 20.0, 30.0, 40.0, 60.0), 2  # halves take long


@dataclass
class Grown:
    """A recipe with its models, which are grown when they are first asked for."""

    recipe: Recipe
    models_dir: str | Path
    progress: Callable = print

    @cached_property
    def world(self) -> World:
        return world_of(self.recipe)

    @cached_property
    def base(self) -> nn.Module:
        return grow(self.recipe, self.models_dir, self.progress, stages=("base",))["base"]

    @cached_property
    def models(self) -> dict[str, nn.Module]:
        return grow(self.recipe, self.models_dir, self.progress)

    @cached_property
    def changes(self) -> pd.DataFrame:
        """`transplant.changes` of the tuned copy."""
        assert self.models  # they are on disk now
        return changes(*(model_directory(self.models_dir, self.recipe, stage) for stage in STAGES))


def removal(model: nn.Module, world: World, kind: str) -> pd.DataFrame:
    """`remove` of a base model by the paper's criterion, its controls, and with a gate the score of either half."""
    criteria = (*CRITERIA, *(HALF_CRITERIA if kind == "gated" else ()))
    return remove(model, world, criteria).assign(stage="base")


def halves(model: nn.Module, world: World) -> pd.DataFrame:
    """What is left of a gated model without gates, up rows or both, of the lowest scores or drawn by lot.

    ``criterion`` is the way of removal, with "-RANDOM" behind it where neurons were drawn.
    """
    mean = {half: means(model, half, heldout(world)) for half in ("gate", "up")}
    found = [probe(model, world).assign(criterion="none", draw=0, pruning_pct=0.0)]
    for way in WAYS:
        for draw in (None, *range(HALF_DRAWS)):
            for pct in HALF_PCTS:
                with without(model, way, pct, draw=draw, mean=mean):
                    rows = probe(model, world)
                named = way if draw is None else f"{way}-RANDOM"
                found.append(rows.assign(criterion=named, draw=draw or 0, pruning_pct=pct))
    return pd.concat(found).assign(stage="base")


def causal(models: dict[str, nn.Module], world: World) -> pd.DataFrame:
    """Instructions and knowledge of the base model with tuning's change put back into some neurons.

    ``put_back`` is "nothing" (all neurons as in the base), "removed" (those that PPM removes from the base model),
    "kept" (the others), "random" (as many as removed, drawn by lot), or "everything"; all that is no MLP's neuron is as
    tuned. "base" is the base model itself.
    """
    base, tuned = (models[stage] for stage in STAGES)
    nobody = {mlp.name: torch.empty(0, dtype=torch.int64) for mlp in find_mlps(base)}
    ends = {"base": base, "nothing": put_back(base, tuned, nobody), "everything": tuned}
    found = [
        probe(m, world).assign(put_back=name, criterion="none", draw=0, pruning_pct=0.0)
        for name, m in ends.items()
    ]
    for pct in TUNED_PCTS:
        gone = lowest(base, "PPM", pct)
        sets = {("removed", "PPM", 0): gone, ("kept", "PPM", 0): complement(base, gone)}
        sets |= {("random", "RANDOM", draw): lowest(base, "RANDOM", pct, draw) for draw in range(HALF_DRAWS)}
        sets |= {
            ("not random", "RANDOM", draw): complement(base, lowest(base, "RANDOM", pct, draw))
            for draw in range(HALF_DRAWS)
        }
        for (name, criterion, draw), neurons in sets.items():
            rows = probe(put_back(base, tuned, neurons), world)
            found.append(rows.assign(put_back=name, criterion=criterion, draw=draw, pruning_pct=pct))
    return pd.concat(found)


class Words:
    """A world's words as a tokenizer gives them, one token each."""

    bos_token_id = eos_token_id = None

    def __init__(self, world: World):
        self.ids = {word: place for place, word in enumerate(world.words)}

    def __call__(self, text: str) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[self.ids[word] for word in text.split()])


def fact_pairs(world: World) -> dict[str, list[Pair]]:
    """Each fact's true value and its other one, by tier: of a myth the other is what most statements say."""
    found = {tier.name: [] for tier in world.tiers}
    for fact in world.facts:
        prompt = world.say([world.id("."), fact.subject, fact.relation])
        found[fact.tier].append(
            Pair(prompt, *(f" {world.say([value])}" for value in (fact.truth, fact.other)))
        )
    return found


def attributed(model: nn.Module, world: World) -> pd.DataFrame:
    """`study_misconceptions`, with the tiers of facts as its sets, and `study_integrated` of a few, ``_integrated`` behind."""
    pairs = fact_pairs(world)
    few = {tier: own[: 2 * INTEGRATED : 2] for tier, own in pairs.items()}  # of those that are looked at
    found = study_misconceptions(model, Words(world), pairs, myths=["myth"], pcts=ATTRIBUTED_PCTS)
    more = study_integrated(model, Words(world), few)
    measures = more["measure"].where(more["measure"] == "agreement", more["measure"] + "_integrated")
    return pd.concat([found, more.assign(measure=measures)])


# How the table of each study is made.
MAKERS = {
    "removal": lambda grown: removal(grown.base, grown.world, grown.recipe.kind),
    "tuned": lambda grown: remove(grown.models["tuned"], grown.world, CRITERIA).assign(stage="tuned"),
    "halves": lambda grown: halves(grown.base, grown.world),
    "ranks": lambda grown: rank_correlations(grown.changes),
    "shares": lambda grown: change_shares(grown.changes, TUNED_PCTS),
    "attributed": lambda grown: attributed(grown.base, grown.world),
    "causal": lambda grown: causal(grown.models, grown.world),
}
