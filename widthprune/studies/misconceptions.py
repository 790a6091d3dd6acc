"""Where misconceptions sit: do the neurons that PPM removes speak for myths more than they speak for other falsehoods?

Half of each set's pairs say which neurons matter, the other half is what removal is measured on. Nothing is
averaged over tokens of several pairs: a number has a standard error over pairs, or over what its definition says.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from ..mlps import find_mlps
from ..pruning import prune_model
from ..scores import score_model
from .attribution import attribute, batches, likelihoods, log_odds, padded
from .masking import lowest
from .pairs import Pair

COLUMNS = ("measure", "set", "criterion", "draw", "pruning_pct", "value", "stderr", "n")
SHARE_PCTS = (10.0, 20.0, 40.0)
TOP = 0.05  # of a layer's neurons: those that matter most
STEPS = 4  # of integrated gradients
DEPTH = 2 / 3  # where the truth direction is looked for, as a part of the layers


def halves(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Every second pair to look at, and the others to measure on."""
    return list(pairs[::2]), list(pairs[1::2])


def mean_row(values, **keys) -> dict:
    """A row of `COLUMNS` for the mean of one value a pair."""
    values = np.asarray(values, float)
    stderr = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    mean = values.mean() if len(values) else np.nan
    row = dict(criterion="none", draw=0, pruning_pct=0.0, value=mean, stderr=stderr, n=len(values))
    return row | keys


def attribution_rows(
    model: nn.Module, tokenizer, sets: Mapping[str, Sequence[Pair]], steps: int = 0
) -> tuple[list[dict], dict[str, dict[str, Tensor]]]:
    """What the shares of neurons say, set by set, and the shares themselves, from `attribute`.

    ``share``: the part of a pair's shares (their absolute values) that lies in the neurons PPM would remove, less the part
    of neurons that these are. ``rank``: Spearman's correlation of a neuron's mean absolute share with its PPM, the mean
    over layers, its error over layers. ``only_myths``: the mean rank by PPM, from 0 to 1, of neurons that are among the
    most important twentieth of their layer for the myths and not for the truths, less 0.5.
    """
    scores = {name: own.cpu() for name, own in score_model(model, "PPM").items()}  # as attributions are
    removed = {pct: lowest(model, "PPM", pct) for pct in SHARE_PCTS}
    rows, shares = [], {}
    for name, pairs in sets.items():
        shares[name] = attribute(model, tokenizer, pairs, steps)
        odds = {mlp: own[:, 1] - own[:, 0] for mlp, own in shares[name].items()}
        whole = sum(own.abs().sum(1) for own in odds.values())
        size = sum(own.shape[1] for own in odds.values())
        for pct, neurons in removed.items():
            inside = sum(odds[mlp][:, own].abs().sum(1) for mlp, own in neurons.items())
            part = sum(map(len, neurons.values())) / size
            rows.append(
                mean_row(inside / whole - part, measure="share", set=name, criterion="PPM", pruning_pct=pct)
            )
        by_layer = [stats.spearmanr(own.abs().mean(0), scores[mlp]).statistic for mlp, own in odds.items()]
        rows.append(mean_row(by_layer, measure="rank", set=name, criterion="PPM"))
        places = [
            place for mlp, own in shares[name].items() for place in only_myths(own.abs().mean(0), scores[mlp])
        ]
        rows.append(mean_row(np.array(places) - 0.5, measure="only_myths", set=name, criterion="PPM"))
    return rows, shares


def only_myths(importance: Tensor, scores: Tensor) -> list[float]:
    """Ranks by score, 0 to 1, of one layer's neurons that matter for myths and not for truths.

    Parameters
    ----------
    importance : Tensor, shape (2, d_ff)
        For truths and for myths.
    scores : Tensor, shape (d_ff,)
    """
    count = max(1, round(TOP * len(scores)))
    truths, myths = (set(own.topk(count).indices.tolist()) for own in importance)
    ranks = (stats.rankdata(scores) - 1) / (len(scores) - 1)
    return ranks[sorted(myths - truths)].tolist()


def speakers(shares: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Scores, lowest for the neurons whose shares speak most for myths, over the sets given: (d_ff,) by MLP."""
    return {mlp: -torch.cat([own[mlp][:, 1] - own[mlp][:, 0] for own in shares]).mean(0) for mlp in shares[0]}


def removals(
    model: nn.Module, attributed: Mapping[str, Tensor], pct: float, draws: int
) -> Iterator[tuple[str, int, nn.Module]]:
    """The model without as many neurons of every layer, by each criterion: its name, the draw, the model."""
    yield "ATTRIBUTED", 0, prune_model(model, pruning_pct=pct, scores=attributed)
    every = [("PPM", 0), ("PPM-REVERSED", 0), *(("RANDOM", draw) for draw in range(draws))]
    for name, draw in every:
        yield name, draw, prune_model(model, name, pruning_pct=pct, seed=draw)


def removal_rows(
    model: nn.Module,
    tokenizer,
    sets: Mapping[str, Sequence[Pair]],
    attributed: Mapping[str, Tensor],
    pcts: Sequence[float],
    draws: int,
) -> list[dict]:
    """What removal does to the log-odds, pair by pair.

    ``odds``: the change of the log-odds of myth against truth, a token. ``truth``: that of the truth's log-likelihood,
    which is the damage. ``against_random``: by how much more the odds change than without random neurons, the mean over
    draws. ``length``: Pearson's correlation over pairs of the change of the whole texts' log-odds with the difference of their
    tokens, myth less truth; its error is that of r.
    """
    before = {name: likelihoods(model, tokenizer, pairs) for name, pairs in sets.items()}
    rows = [mean_row(log_odds(own), measure="odds_before", set=name) for name, own in before.items()]
    for pct in pcts:
        changes = {}
        for criterion, draw, smaller in removals(model, attributed, pct, draws):
            key = dict(criterion=criterion, draw=draw, pruning_pct=pct)
            for name, pairs in sets.items():
                after = likelihoods(smaller, tokenizer, pairs)
                change = log_odds(after) - log_odds(before[name])
                changes.setdefault((name, criterion), []).append(change)
                rows.append(mean_row(change, measure="odds", set=name, **key))
                rows.append(mean_row((after - before[name])[:, 0, 0], measure="truth", set=name, **key))
                rows.append(length_row(before[name], after) | dict(set=name) | key)
            del smaller  # before the next one is made
        for (name, criterion), own in changes.items():
            if criterion != "RANDOM":
                further = own[0] - torch.stack(changes[name, "RANDOM"]).mean(0)
                key = dict(set=name, criterion=criterion, pruning_pct=pct)
                rows.append(mean_row(further, measure="against_random", **key))
    return rows


def length_row(before: Tensor, after: Tensor) -> dict:
    """How the change of whole texts' log-odds goes with the difference of their lengths."""
    change = (log_odds(after, summed=True) - log_odds(before, summed=True)).numpy()
    longer = (before[:, 1, 1] - before[:, 1, 0]).numpy()
    n = len(change)
    flat = n < 4 or float(np.ptp(longer)) == 0
    r = np.nan if flat else stats.pearsonr(longer, change).statistic
    return dict(measure="length", value=r, stderr=np.sqrt((1 - r**2) / max(n - 2, 1)), n=n)


def direction_rows(
    model: nn.Module, tokenizer, sets: Mapping[str, Sequence[Pair]], pcts: Sequence[float]
) -> list[dict]:
    """Whether a direction of truth is there, and whether it is the same for another set, before and after PPM.

    The direction is the difference of means of the last token's signal at two thirds of the depth, over one half of a set's
    pairs (Marks and Tegmark, arXiv 2310.06824); ``direction:SET`` is the share of another set's pairs, or of its own other
    half, whose truth lies further along it than their myth. Half would be chance.
    """
    rows = []
    for pct in (0.0, *pcts):
        own = prune_model(model, "PPM", pruning_pct=pct) if pct else model
        signals = {name: last_signals(own, tokenizer, pairs) for name, pairs in sets.items()}
        for source, learnt in signals.items():
            direction = (learnt[::2, 0] - learnt[::2, 1]).mean(0)
            for target, tried in signals.items():
                tried = tried[1::2] if target == source else tried
                right = ((tried[:, 0] - tried[:, 1]) @ direction > 0).double()
                key = dict(criterion="PPM" if pct else "none", pruning_pct=pct)
                rows.append(mean_row(right, measure=f"direction:{source}", set=target, **key))
        del own  # before the next one is made
    return rows


@torch.inference_mode()
def last_signals(model: nn.Module, tokenizer, pairs: Sequence[Pair]) -> Tensor:
    """The signal between layers at a text's last token, truth and myth: (pairs, 2, d_model) float32."""
    layer = round(DEPTH * len(find_mlps(model)))
    found = []
    for texts in batches(tokenizer, pairs):
        tokens = padded(texts).to(model.device)
        signals = model.base_model(tokens, output_hidden_states=True, use_cache=False).hidden_states[layer]
        last = [len(own) - 1 for own, _ in texts]
        found.append(signals[range(len(last)), last].float().cpu())
    return torch.cat(found).unflatten(0, (len(pairs), 2))


def study_misconceptions(
    model: nn.Module,
    tokenizer,
    sets: Mapping[str, Sequence[Pair]],
    *,
    myths: Sequence[str],
    pcts: Sequence[float] = (1.0, 5.0, 10.0),
    draws: int = 3,
) -> pd.DataFrame:
    """Everything above on one model.

    Parameters
    ----------
    model : PreTrainedModel
        In float32; left as it was.
    sets : mapping of str to sequence of Pair
        By their names.
    myths : sequence of str
        The sets whose falsehoods are misconceptions: what neurons are attributed by.
    pcts : sequence of float
        Percentages of neurons that are removed.
    draws : int
        Of random neurons.

    Returns
    -------
    DataFrame
        With `COLUMNS`.
    """
    looked_at = {name: halves(pairs)[0] for name, pairs in sets.items()}
    others = {name: halves(pairs)[1] for name, pairs in sets.items()}
    rows, shares = attribution_rows(model, tokenizer, looked_at)
    attributed = speakers([shares[name] for name in sets if name in myths])
    rows += removal_rows(model, tokenizer, others, attributed, pcts, draws)
    rows += direction_rows(model, tokenizer, sets, [pct for pct in SHARE_PCTS if pct != 20])
    return pd.DataFrame(rows)[list(COLUMNS)]


def study_integrated(model: nn.Module, tokenizer, sets: Mapping[str, Sequence[Pair]]) -> pd.DataFrame:
    """What `attribution_rows` says by integrated gradients, and how far they agree with gradient times activation.

    Returns
    -------
    DataFrame
        With `COLUMNS`, and ``agreement`` among the measures: Spearman's correlation over a layer's neurons of the mean share
        of the log-odds by one with that by the other, the mean over layers, its error over layers.
    """
    rows, integrated = attribution_rows(model, tokenizer, sets, STEPS)
    for name, pairs in sets.items():
        both = attribute(model, tokenizer, pairs), integrated[name]
        odds = ([(own[mlp][:, 1] - own[mlp][:, 0]).mean(0) for own in both] for mlp in integrated[name])
        by_layer = [stats.spearmanr(*pair).statistic for pair in odds]
        rows.append(mean_row(by_layer, measure="agreement", set=name))
    return pd.DataFrame(rows)[list(COLUMNS)]
