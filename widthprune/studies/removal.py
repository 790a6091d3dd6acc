"""Removal: what a grown model loses when neurons go, criterion by criterion, width by width."""

from collections.abc import Sequence

import pandas as pd
from torch import nn

from ..criteria import find_criterion
from ..pruning import prune_model
from .probing import probe
from .worlds import World

PCTS = (5, 10, 20, 30, 40, 60, 80)
DRAWS = 3  # of random neurons


def remove(model: nn.Module, world: World, criteria: Sequence[str]) -> pd.DataFrame:
    """`probe` of the model, and of it pruned by each criterion to each width.

    Returns
    -------
    DataFrame
        ``criterion`` ("none" of the unpruned), ``draw`` (of criteria that are drawn; else 0), ``pruning_pct``, and the
        columns of `probe`.
    """
    found = [probe(model, world).assign(criterion="none", draw=0, pruning_pct=0.0)]
    for name in criteria:
        for draw in range(DRAWS if find_criterion(name).seeded else 1):
            for pct in PCTS:
                pruned = prune_model(model, name, pruning_pct=pct, seed=draw)
                found.append(probe(pruned, world).assign(criterion=name, draw=draw, pruning_pct=float(pct)))
    return pd.concat(found, ignore_index=True)
