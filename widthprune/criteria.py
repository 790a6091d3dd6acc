"""The criteria: one record each, read by all that names, offers, draws or applies one. No torch.

To add a criterion, write its score function in `weight_criteria` (it sees the rows of gate and up) or in
`activation_criteria` (it sees sums over a text, and all three matrices), and give it a record here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from .errors import WidthPruneError

# Written behind the criterion's name where neurons competed across layers.
GLOBAL = "-GLOBAL"


@dataclass(frozen=True)
class Criterion:
    """A way to score neurons, and what it needs."""

    name: str  # in capitals, as in results
    label: str  # what the score of a neuron is, in a line
    score: str  # the function's name, in `activation_criteria` if it needs text, else in `weight_criteria`
    needs_text: bool = False  # the model is run over a text first
    needs_gradients: bool = False  # and backwards, too
    adds_bias: bool = False  # what the removed neurons added on average becomes a bias
    seeded: bool = False  # drawn: another seed gives other neurons
    across_layers: bool = True  # never below zero, so that layers may be compared by shares of their mean

    @property
    def function(self) -> Callable:
        """The score function, imported when it is first needed: it needs torch, and names do not.

        Raises
        ------
        WidthPruneError
            If the record names no function there.
        """
        home = "activation_criteria" if self.needs_text else "weight_criteria"
        found = getattr(import_module(f".{home}", __package__), self.score, None)
        if not callable(found):
            raise WidthPruneError(f"{self.name} must name a function of {home}, got {self.score!r}")
        return found


# In the order of figures.
REGISTRY = {
    criterion.name: criterion
    for criterion in (
        Criterion("PPM", "Peak-to-Peak Magnitude: max + |min| of the gate row and of the up row", "ppm"),
        Criterion("MAW", "Maximum Absolute Weight of the gate row and of the up row", "maw"),
        Criterion("L2", "L2 norms of the gate row and of the up row", "l2"),
        Criterion("VOW", "Variance Of Weights of the gate row and of the up row", "vow"),
        Criterion("PON", "Product Of the L1 Norms of the gate row and the up row", "pon"),
        Criterion("PPM-REVERSED", "minus PPM", "ppm_reversed", across_layers=False),
        Criterion("PPM-GATE", "PPM of the gate row alone", "ppm_gate"),
        Criterion("PPM-UP", "PPM of the up row alone", "ppm_up"),
        Criterion("RANDOM", "a seeded permutation", "random_order", seeded=True),
        Criterion("ACT", "L2 norm of the activations", "activation_norm", needs_text=True),
        Criterion("AMP", "mean absolute activation", "amp", needs_text=True),
        Criterion("WANDA-SP", "L1 norm of the down column times ACT", "wanda_sp", needs_text=True),
        Criterion("FLAP", "variance of what the neuron adds to the output", "flap", needs_text=True),
        Criterion("FLAP-BIAS", "FLAP, and a bias", "flap", needs_text=True, adds_bias=True),
        Criterion("MINITRON", "L2 norm over sequences of a sequence's AMP", "minitron", needs_text=True),
        Criterion(
            "TAYLOR", "change of the loss, first order", "taylor", needs_text=True, needs_gradients=True
        ),
        Criterion(
            "PPM-ACT", "relative PPM of all three matrices times ACT", "ppm_times_norm", needs_text=True
        ),
    )
}
CRITERIA = tuple(name for name, criterion in REGISTRY.items() if not criterion.needs_text)
CALIBRATED = tuple(name for name, criterion in REGISTRY.items() if criterion.needs_text)


def find_criterion(name: str, *, needs_text: bool | None = None) -> Criterion:
    """The record of a criterion, by its name in any case.

    Parameters
    ----------
    name : str
    needs_text : bool, optional
        Accept only criteria that look at data, or only those that do not.

    Raises
    ------
    WidthPruneError
        With the names that are accepted.
    """
    known = {key: found for key, found in REGISTRY.items() if needs_text in (None, found.needs_text)}
    if str(name).upper() not in known:
        raise WidthPruneError(f"criterion must be one of {', '.join(known)}, got {name!r}")
    return known[str(name).upper()]


def criterion_of(label: str) -> Criterion | None:
    """The record behind a criterion as results write it, such as PPM-GLOBAL; None for "none" and unknown ones."""
    return REGISTRY.get(label.removesuffix(GLOBAL))


def check_across_layers(criterion: Criterion) -> None:
    """Refuse a criterion whose scores say nothing across layers, where neurons would compete across them."""
    if not criterion.across_layers:
        raise WidthPruneError(
            f"global widths compare scores with their layer's mean, and those of {criterion.name} are below zero: "
            "choose another criterion"
        )
