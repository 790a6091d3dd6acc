"""The models of a sweep: which criterion, how many neurons, which draw."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..commands.options import PERCENTAGE, RATIO, check_list
from ..criteria import GLOBAL, find_criterion
from ..sizes import expansion_ratio, kept_size

PAPER_PCTS = (0, 10, 20, 30, 40, 50, 60)


@dataclass(frozen=True)
class Point:
    """One model of a sweep; the unpruned one has criterion "none"."""

    criterion: str
    pruning_pct: float
    intermediate_size: int
    expansion_ratio: float
    neuron_seed: int | None = None  # of a criterion that is drawn, where it is not the whole sweep's

    @property
    def global_widths(self) -> bool:
        """Whether neurons compete across layers; the intermediate size is then the mean over layers."""
        return self.criterion.endswith(GLOBAL)


def grid(
    intermediate_size: int,
    hidden_size: int,
    *,
    pruning_pcts: Iterable[float] = (),
    expansion_ratios: Iterable[float] = (),
    criteria: Iterable[str] = ("PPM",),
    neuron_seeds: Iterable[int | None] = (None,),
) -> list[Point]:
    """The models of a sweep, the unpruned one first and once, then by criterion, draw and width.

    Parameters
    ----------
    intermediate_size, hidden_size : int
        d_ff and d_model of the unpruned model.
    pruning_pcts, expansion_ratios : iterable of float
        Both may be given; of two that leave the same neurons the percentage names the point.
    criteria : iterable of str
        Names as in `criteria.REGISTRY`, in any case.
    neuron_seeds : iterable of int or None
        Draws of the criteria that are drawn; None is the seed of the whole sweep.

    Returns
    -------
    list of Point
        The widest first under each criterion.

    Raises
    ------
    WidthPruneError
        If a criterion is unknown, or a percentage or ratio out of range.

    Examples
    --------
    >>> [(p.criterion, p.intermediate_size) for p in grid(8192, 2048, expansion_ratios=[2.4])]
    [('none', 8192), ('PPM', 4916)]
    """
    # A lone text, as a parameter of papermill may be, would be read letter by letter.
    pruning_pcts = check_list("pruning_pcts", pruning_pcts, PERCENTAGE)
    expansion_ratios = check_list("expansion_ratios", expansion_ratios, RATIO)
    criteria = check_list("criteria", criteria)
    sizes = {kept_size(intermediate_size, hidden_size, pruning_pct=pct): float(pct) for pct in pruning_pcts}
    for ratio in expansion_ratios:
        size = kept_size(intermediate_size, hidden_size, expansion_ratio=ratio)
        pct = 100 * (1 - size / intermediate_size)
        # 2.4x of 8192 is what 40% leaves, though one neuron in 8192 cannot be cut in half.
        whole = kept_size(intermediate_size, hidden_size, pruning_pct=round(pct)) == size
        sizes.setdefault(size, float(round(pct)) if whole else round(pct, 2))
    sizes.pop(intermediate_size, None)
    points = [
        Point("none", 0.0, intermediate_size, round(expansion_ratio(intermediate_size, hidden_size), 4))
    ]
    for criterion in dict.fromkeys(find_criterion(name) for name in criteria):
        for neuron_seed in neuron_seeds if criterion.seeded else (None,):
            for size in sorted(sizes, reverse=True):
                ratio = round(expansion_ratio(size, hidden_size), 4)
                points.append(Point(criterion.name, sizes[size], size, ratio, neuron_seed))
    return points
