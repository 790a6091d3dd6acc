"""Masking: hold what gates or up projections of some neurons give at fixed values, without cutting anything.

Held at zero in both, a neuron is removed, as if it had been cut. What one half alone contributes is seen when the other
stays: a gate held at its mean no longer opens and closes, and its neuron becomes linear.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import WidthPruneError
from ..layouts import MLP
from ..mlps import find_mlps
from ..pruning import target_sizes
from ..scores import choose_neurons, score_model

HALVES = ("gate", "up")  # in the order of a layout's inputs


def half_path(mlp: MLP, half: str) -> str:
    """The module that gives one half of a gated MLP's neurons.

    Raises
    ------
    WidthPruneError
        If there is no such half, or the MLP has no gate, or has both halves in one matrix.
    """
    if half not in HALVES:
        raise WidthPruneError(f"half must be one of {', '.join(HALVES)}, got {half!r}")
    inputs = [part for part in mlp.parts if part.role == "input"]
    if len(inputs) != 2 or mlp.experts is not None:
        raise WidthPruneError(
            f"{mlp.name} has no {half} projection of its own: choose a model whose MLPs have gate and up"
        )
    return inputs[HALVES.index(half)].path


@contextmanager
def held(
    model: nn.Module, half: str, neurons: Mapping[str, Tensor], values: Mapping[str, Tensor] | None = None
) -> Iterator:
    """Within the block, one half of some neurons gives fixed numbers.

    Parameters
    ----------
    model : PreTrainedModel
    half : str
        "gate" (before the activation function) or "up".
    neurons : mapping of str to Tensor, shape (n,), int64
        By the MLP's name.
    values : mapping of str to Tensor, shape (d_ff,), optional
        What each neuron of an MLP is held at; default zero.

    Raises
    ------
    WidthPruneError
        As `half_path`.
    """
    mlps = {mlp.name: mlp for mlp in find_mlps(model)}
    with ExitStack() as stack:
        for name, own in neurons.items():
            fixed = torch.zeros(mlps[name].size) if values is None else values[name]
            module = model.get_submodule(half_path(mlps[name], half))
            stack.enter_context(module.register_forward_hook(_hold(own, fixed[own])))
        yield


def _hold(neurons: Tensor, fixed: Tensor):
    def hook(module, inputs, output):
        output = output.clone()
        output[..., neurons.to(output.device)] = fixed.to(output)
        return output

    return hook


def means(model: nn.Module, half: str, rows: np.ndarray) -> dict[str, Tensor]:
    """What one half of each neuron gives on average over rows of tokens, by MLP: shape (d_ff,), float32."""
    sums = {}

    def note(name):
        def hook(module, inputs, output):
            sums[name] = output.detach().float().mean(dim=tuple(range(output.ndim - 1))).cpu()

        return hook

    with ExitStack() as stack, torch.inference_mode():
        for mlp in find_mlps(model):
            module = model.get_submodule(half_path(mlp, half))
            stack.enter_context(module.register_forward_hook(note(mlp.name)))
        model(input_ids=torch.as_tensor(rows, device=model.device))
    return sums


# Ways to remove: which half is held at what, and by which score its neurons are chosen.
WAYS = {
    "PAIRED": "gate and up rows of the lowest PPM at zero: the neuron is removed",
    "UNPAIRED": "gate rows of the lowest PPM-GATE at zero, and up rows of the lowest PPM-UP, chosen apart",
    "GATE-HELD": "gates of the lowest PPM held at their mean, up rows stay",
    "UP-HELD": "up rows of the lowest PPM held at their mean, gates stay",
}


@contextmanager
def without(
    model: nn.Module, way: str, pct: float, *, draw: int | None = None, mean: Mapping | None = None
) -> Iterator:
    """Within the block, the model without a percentage of halves or neurons, removed one of `WAYS`.

    Parameters
    ----------
    model : PreTrainedModel
        With a gate.
    way : str
    pct : float
        Of each half that is held, in every layer.
    draw : int, optional
        Neurons are drawn by lot, instead of those of the lowest scores.
    mean : mapping, optional
        "gate" and "up", from `means`: for halves that are held at their mean.
    """
    if way not in WAYS:
        raise WidthPruneError(f"way must be one of {', '.join(WAYS)}, got {way!r}")
    if way == "UNPAIRED":
        halves = {"gate": ("PPM-GATE", 2), "up": ("PPM-UP", 3)}
    else:
        halves = {half: ("PPM", 1) for half in HALVES if way in ("PAIRED", f"{half.upper()}-HELD")}
    with ExitStack() as stack:
        for half, (criterion, lot) in halves.items():
            name, seed = (criterion, 0) if draw is None else ("RANDOM", 10 * draw + lot)
            neurons = lowest(model, name, pct, seed)
            values = mean[half] if way.endswith("HELD") else None
            stack.enter_context(held(model, half, neurons, values))
        yield


def lowest(model: nn.Module, criterion: str, pct: float, seed: int = 0) -> dict[str, Tensor]:
    """The neurons that a criterion removes at a percentage, by MLP: int64, ascending."""
    kept = choose_neurons(
        model, score_model(model, criterion, seed=seed), target_sizes(model, pruning_pct=pct)
    )
    return complement(model, kept)


def complement(model: nn.Module, neurons: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All other neurons of every MLP: int64, ascending."""
    found = {}
    for mlp in find_mlps(model):
        others = torch.ones(mlp.size, dtype=torch.bool)
        others[neurons[mlp.name].cpu()] = False
        found[mlp.name] = others.nonzero().flatten()
    return found
