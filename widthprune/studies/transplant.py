"""Where tuning wrote: the change between two checkpoints of one shape, neuron by neuron, and putting it back into some.

Both checkpoints are read tensor by tensor, so that of models of any size two matrices are in memory at a time. torch is
imported where one is read: a chapter that shows what was measured needs none.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from ..checkpoints.shards import DTYPES, Stored, read_headers, read_tensor
from ..errors import WidthPruneError
from ..layouts import MLP, Part, find_layouts
from ..models.files import read_object
from ..sizes import kept_size
from ..widths import hidden_size

if TYPE_CHECKING:
    from torch import Tensor, nn

MATRICES = ("gate", "up", "down")


def changes(base: str | Path, tuned: str | Path, criterion: str = "PPM") -> pd.DataFrame:
    """What tuning changed in each neuron, and the score that the neuron had before.

    Parameters
    ----------
    base, tuned : path
        Directories of safetensors checkpoints of one shape.
    criterion : str
        Scores the base model's neurons; one that needs no data.

    Returns
    -------
    DataFrame
        One row a neuron: ``layer``, ``neuron``, ``score``; for each of `MATRICES` the L2 norm of the change of its row
        (of down_proj its column) and of the base's, ``change_gate`` and ``norm_gate`` among others. Without a gate there
        is no column for one.

    Raises
    ------
    WidthPruneError
        If a directory is no checkpoint, the two differ in a tensor's name or shape, or an MLP is a mixture of experts.
    """
    from ..scores import score_mlp

    headers = [read_headers(Path(path)) for path in (base, tuned)]
    check_alike(*headers, names=(str(base), str(tuned)))
    rows = []
    for layer, mlp in enumerate(_layouts(Path(base), headers[0])):
        own = _neurons(mlp, headers[0])
        columns = {}
        for name, old, new in zip(own, own.values(), _neurons(mlp, headers[1]).values(), strict=True):
            columns |= {
                f"change_{name}": (new - old).norm(dim=1).numpy(),
                f"norm_{name}": old.norm(dim=1).numpy(),
            }
        up = own["up"]
        gate, up = (own["gate"], up) if "gate" in own else (up, None)
        score = score_mlp(mlp.name, gate, up, criterion, seed=(0, layer)).numpy()
        rows.append(pd.DataFrame(dict(layer=layer, neuron=np.arange(mlp.size), score=score) | columns))
    return pd.concat(rows, ignore_index=True)


def check_alike(one: Mapping[str, Stored], other: Mapping[str, Stored], names: Sequence[str]) -> None:
    """Refuse two checkpoints that differ in a tensor's name or shape."""
    for tensor in sorted(one.keys() ^ other.keys()) or [t for t in one if one[t].shape != other[t].shape]:
        shapes = [str(stored[tensor].shape) if tensor in stored else "nothing" for stored in (one, other)]
        raise WidthPruneError(
            f"base and tuned must be of one shape: {tensor} is {shapes[0]} in {names[0]} and {shapes[1]} in {names[1]}: "
            "name a model and its tuned copy"
        )


def _layouts(source: Path, header: Mapping[str, Stored]) -> list[MLP]:
    config = read_object(source, "config.json")
    shapes = {name: stored.shape for name, stored in header.items()}
    mlps = find_layouts(shapes, config.get("model_type", ""), hidden_size(config), str(source))
    if mixed := [mlp.name for mlp in mlps if mlp.experts is not None]:
        raise WidthPruneError(
            f"{mixed[0]} is a mixture of experts, whose changes are not compared neuron by neuron: name dense models"
        )
    return mlps


def _neurons(mlp: MLP, header: Mapping[str, Stored]) -> dict[str, "Tensor"]:
    """The three matrices with a row for each neuron, float32: shape (d_ff, d_model)."""
    from ..slicing import neuron_rows

    found = {}
    for part in mlp.parts:
        if part.role == "bias":
            continue
        rows = neuron_rows(_read(header[part.tensor]), part)
        found |= (
            {"down": rows[0]}
            if part.role == "output"
            else {f"input{len(found) + i}": r for i, r in enumerate(rows)}
        )
    inputs = [found[name] for name in found if name != "down"]
    return dict(zip(MATRICES if len(inputs) == 2 else MATRICES[1:], [*inputs, found["down"]], strict=True))


def _read(stored: Stored) -> "Tensor":
    """One tensor of a file, in float32."""
    if stored.dtype not in DTYPES:
        raise WidthPruneError(
            f"{stored.name} is stored as {stored.dtype}: compare checkpoints that are not quantized"
        )
    return read_tensor(stored).float()


def squared(table: pd.DataFrame) -> np.ndarray:
    """Of each neuron the squared change of all its rows together, shape (n,)."""
    return sum(table[f"change_{name}"].to_numpy() ** 2 for name in MATRICES if f"change_{name}" in table)


def rank_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation of the score with each matrix's change, absolute and relative, for each layer.

    A row of a small norm changes much relative to it for that reason alone: the two are to be read together.
    """
    rows = []
    for layer, own in table.groupby("layer"):
        for name in MATRICES:
            if f"change_{name}" not in own:
                continue
            absolute, norm = own[f"change_{name}"], own[f"norm_{name}"]
            for change, size in {"absolute": absolute, "relative": absolute / norm}.items():
                rows.append(
                    dict(
                        layer=layer,
                        matrix=name,
                        change=change,
                        rho=stats.spearmanr(own["score"], size).statistic,
                    )
                )
    return pd.DataFrame(rows)


def removed_neurons(table: pd.DataFrame, pct: float, draw: int | None = None) -> np.ndarray:
    """Which neurons go at a percentage: in each layer those of the lowest scores, or as many drawn by lot; bool, (n,)."""
    import torch

    from ..scores import kept_indices

    gone = np.ones(len(table), bool)
    for layer, rows in table.groupby("layer").indices.items():
        scores = table["score"].to_numpy()[rows]
        if draw is not None:
            scores = np.random.default_rng([draw, layer]).permutation(len(rows))
        kept = kept_indices(torch.from_numpy(scores), kept_size(len(rows), 1, pruning_pct=pct))
        gone[rows[kept.numpy()]] = False
    return gone


def change_shares(table: pd.DataFrame, pcts: Sequence[float], draws: int = 200) -> pd.DataFrame:
    """The share of the squared change that lies in the neurons a criterion removes, beside sets drawn by lot.

    Returns
    -------
    DataFrame
        ``pruning_pct``, ``share``, and of ``draws`` random sets of that size the mean ``random`` and standard deviation
        ``random_sd``.
    """
    weight = squared(table) / squared(table).sum()
    rows = []
    for pct in pcts:
        lots = [weight[removed_neurons(table, pct, draw)].sum() for draw in range(draws)]
        share = weight[removed_neurons(table, pct)].sum()
        rows.append(dict(pruning_pct=pct, share=share, random=np.mean(lots), random_sd=np.std(lots, ddof=1)))
    return pd.DataFrame(rows)


def put_back(base: "nn.Module", tuned: "nn.Module", neurons: "Mapping[str, Tensor]") -> "nn.Module":
    """The base model with what tuning changed in some of its neurons, and in all that is no neuron's.

    Parameters
    ----------
    base, tuned : PreTrainedModel
        Of one shape; both stay as they are.
    neurons : mapping of str to Tensor, shape (n,), int64
        By the MLP's name, those that are taken from the tuned model.

    Returns
    -------
    PreTrainedModel
        With all neurons the tuned model. The MLPs' output biases are no neuron's.
    """
    import torch

    from ..mlps import find_mlps

    model = copy.deepcopy(tuned)
    for mlp in find_mlps(base):
        mine = torch.zeros(mlp.size, dtype=torch.bool)
        mine[neurons[mlp.name]] = True
        for part in mlp.parts:
            old, new = base.get_parameter(part.tensor), tuned.get_parameter(part.tensor)
            with torch.no_grad():
                model.get_parameter(part.tensor).copy_(_chosen(old, new, part, mine))
    return model


def _chosen(old: "Tensor", new: "Tensor", part: Part, mine: "Tensor") -> "Tensor":
    """Of a matrix or bias the entries of some neurons from one, all others from another."""
    import torch

    if part.packing == "halves":
        mine = torch.cat([mine, mine])
    elif part.packing == "alternating":
        mine = mine.repeat_interleave(2)
    shape = [1] * old.ndim
    shape[part.axis] = -1
    return torch.where(mine.to(old.device).reshape(shape), new, old)
