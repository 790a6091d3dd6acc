"""Widths and the config: which field holds an MLP's size, and what it says after pruning. No torch.

Three words are kept apart here. The *size* of an MLP is its number of neurons, of each expert if it has several. A *width*
is the place in the config that the size comes from. The *unit* is what one reads there: the size is the unit or a whole
multiple of it (DeepSeek's shared expert is n_shared times a routed one).

A model may have several widths: dense layers, routed experts and shared experts each read a field of their own.
`pruning_pct` applies to each alike; an expansion ratio needs a single one.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import WidthPruneError
from .layouts import MLP
from .sizes import kept_size

# Fields that hold a size, the most special first, as transformers' configs name them.
FIELDS = {
    "dense": (
        "intermediate_size_mlp",  # Llama-4
        "dense_intermediate_size",
        "prefix_dense_intermediate_size",
        "decoder_ffn_dim",
        "intermediate_size",
        "ffn_dim",
        "ffn_hidden_size",
        "n_inner",
        "d_inner",
        "dff",
        "dim_ff",
    ),
    "expert": ("moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size"),
    "shared": (
        "shared_expert_intermediate_size",
        "moe_shared_expert_intermediate_size",
        "shared_intermediate_size",
        "moe_intermediate_size",
        "intermediate_size",
    ),
}
# Grouped matrix multiplication, which transformers runs experts with, wants rows of a multiple of 16 bytes.
EXPERT_MULTIPLE = 8
# Families whose field is not the size until these are set too.
SETTINGS = {"lfm2": {"block_auto_adjust_ff_dim": False}}


@dataclass(frozen=True)
class Width:
    """A size in the config: ``config[field]`` (``config[field][index]`` of a list).

    The MLPs that read it have ``unit`` neurons or a whole multiple; so has the field itself.
    """

    field: str
    index: int | None
    unit: int

    def __str__(self):
        return self.field if self.index is None else f"{self.field}[{self.index}]"


def check_family(config: Mapping, owner: str) -> None:
    """Refuse what names and shapes cannot show: models in which leaving out a neuron changes others."""
    if config.get("is_encoder_decoder"):
        raise WidthPruneError(f"{owner} is an encoder-decoder model: only decoders can be pruned")
    if any(config.get("activation_sparsity_pattern") or ()):
        raise WidthPruneError(
            f"{owner} keeps the neurons above a quantile of all (activation_sparsity_pattern), so that removing "
            "some changes others: it cannot be pruned"
        )


def hidden_size(config: Mapping) -> int | None:
    """Width of the residual stream, by any of the names that configs use."""
    names = ("hidden_size", "n_embd", "d_model", "emb_dim")
    return next((config[name] for name in names if isinstance(config.get(name), int)), None)


def find_widths(mlps: Sequence[MLP], config: Mapping, owner: str) -> dict[str, Width]:
    """The config field that each MLP's size comes from, by MLP name.

    Raises
    ------
    WidthPruneError
        If no field of the config explains a size: transformers could not build the pruned model.
    """
    widths = {mlp.name: _width(mlp, config, owner) for mlp in mlps}
    units = defaultdict(set)
    for width in widths.values():
        units[width.field, width.index].add(width.unit)
    for (field, _), several in units.items():
        if len(several) > 1:
            raise WidthPruneError(
                f"{owner}: config.json says {field} {config.get(field)}, and MLPs that read it have sizes "
                f"{sorted(several)}: it cannot be pruned"
            )
    return widths


def _width(mlp: MLP, config: Mapping, owner: str) -> Width:
    fields = [field for field in FIELDS[mlp.kind] if field in config]
    adjusted = SETTINGS.get(config.get("model_type"), {})
    if any(config.get(field, value) != value for field, value in adjusted.items()):
        return Width(fields[0], None, mlp.size)
    # An equal size before a multiple: several fields may happen to divide one another.
    for equal in (True, False):
        for field in fields:
            value, index = config[field], None
            if isinstance(value, list):
                index = mlp.layer[0] if mlp.layer and mlp.layer[0] < len(value) else 0
                value = value[index]
            if value is None and mlp.size == 4 * mlp.hidden_size:
                value = mlp.size  # GPT-2's n_inner and the like: absent means four times the hidden size
            if not isinstance(value, int) or value < 1:
                continue
            small, large = sorted((value, mlp.size))
            if small == large if equal else large % small == 0 and large <= 16 * small:
                return Width(field, index, small)
    sizes = ", ".join(f"{field} {config[field]}" for field in fields) or "no field for a size"
    raise WidthPruneError(
        f"{owner}: config.json says {sizes}, but {mlp.name} has {mlp.size} neurons"
        f"{' in each expert' if mlp.experts else ''}: transformers could not build the pruned model"
    )


def kept_units(
    mlps: Sequence[MLP],
    widths: Mapping[str, Width],
    *,
    pruning_pct: float | None = None,
    expansion_ratio: float | None = None,
    size: int | None = None,
    multiple_of: int = 1,
) -> dict[Width, int]:
    """What every width becomes: see `kept_size`. An expert's is a multiple of `EXPERT_MULTIPLE` too.

    Raises
    ------
    WidthPruneError
        As `kept_size`; and if an expansion ratio or a size is given for a model with several widths.
    """
    hidden = {widths[mlp.name]: mlp.hidden_size for mlp in mlps}
    single = {"expansion_ratio": expansion_ratio, "size": size}
    given = [name for name, value in single.items() if value is not None]
    if given and pruning_pct is None and len({width.unit for width in hidden}) > 1:
        named = ", ".join(f"{width} {width.unit}" for width in hidden)
        raise WidthPruneError(
            f"{given[0]} needs a model with one intermediate size, and this one has {named}: give pruning_pct"
        )
    target = single | {"pruning_pct": pruning_pct, "multiple_of": multiple_of}
    units = {}
    for width, hidden_size in hidden.items():
        units[width] = kept_size(width.unit, hidden_size, **target)
        multiple = math.lcm(multiple_of, EXPERT_MULTIPLE)
        kinds = {mlp.kind for mlp in mlps if widths[mlp.name] == width}
        if "expert" in kinds and width.unit % EXPERT_MULTIPLE == 0:
            units[width] = min(-(-units[width] // multiple) * multiple, width.unit)
    return units


def common_units(
    mlps: Sequence[MLP], widths: Mapping[str, Width], sizes: Mapping[str, int]
) -> dict[Width, int]:
    """What every width becomes when the MLPs keep ``sizes`` neurons: of those that share one, the least.

    The config tells those sizes if `kept_sizes` of the result gives them back.
    """
    units = {}
    for mlp in mlps:
        width = widths[mlp.name]
        unit = max(sizes[mlp.name] * width.unit // mlp.size, 1)
        units[width] = min(units.get(width, unit), unit)
    return units


def kept_sizes(
    mlps: Sequence[MLP], widths: Mapping[str, Width], units: Mapping[Width, int]
) -> dict[str, int]:
    """Neurons that each MLP (each of its experts) keeps, by MLP name."""
    return {mlp.name: mlp.size // widths[mlp.name].unit * units[widths[mlp.name]] for mlp in mlps}


def config_changes(config: Mapping, units: Mapping[Width, int]) -> dict:
    """Fields of the (text) config that the new widths change, with their values.

    Parameters
    ----------
    config : mapping
        The text config's fields before pruning.
    units : mapping of Width to int
        From `kept_units`.

    Returns
    -------
    dict
        Field to value; a list is whole, with the entries of all layers.

    Examples
    --------
    >>> config_changes({"intermediate_size": 8192}, {Width("intermediate_size", None, 8192): 4916})
    {'intermediate_size': 4916}
    """
    changes = dict(SETTINGS.get(config.get("model_type"), {}))
    adjusted = any(config.get(field, value) != value for field, value in changes.items())
    for width, unit in units.items():
        value = config[width.field]
        if width.index is not None:
            value = changes.get(width.field, list(value))
            value[width.index] = value[width.index] // width.unit * unit
            changes[width.field] = value
        else:
            scale = 1 if value is None or adjusted else value // width.unit
            changes[width.field] = scale * unit
    return changes
