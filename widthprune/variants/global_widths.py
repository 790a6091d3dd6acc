"""Global widths: neurons compete across layers, so that layers end with sizes of their own."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import WidthPruneError
from ..layouts import MLP
from ..mlps import text_config
from ..widths import Width


def global_sizes(scores: Mapping[str, Tensor], total: int, multiple_of: int = 1) -> dict[str, int]:
    """How many neurons each layer keeps when the best ``total`` of all layers are kept.

    A layer's scores are divided by their mean, because criteria scale with a layer's weights or
    activations, which grow from layer to layer: undivided, whole layers would be lost for their scale
    alone. After division every layer averages 1, and a layer gives up neurons to the extent that they
    fall short of what is usual in it. (FLAP subtracts the mean and divides by the standard deviation
    instead, arXiv 2312.11983; that takes spread away, too, and spread is what tells layers apart.)

    Parameters
    ----------
    scores : mapping of str to Tensor, shape (d_ff,)
        Non-negative scores of every layer, from `score_model`; d_ff may differ from layer to layer.
    total : int
        Neurons to keep in the whole model: what a uniform width would keep.
    multiple_of : int
        Neurons move between layers in blocks of this many, a block being worth its mean; every layer
        keeps at least one. A layer's size is a multiple, or d_ff itself.

    Returns
    -------
    dict of str to int
        Their sum is ``total``, or less than one block below it.

    Examples
    --------
    >>> global_sizes({"a": torch.tensor([1.0, 1, 1]), "b": torch.tensor([0.1, 0.1, 2.0])}, 4)
    {'a': 3, 'b': 1}
    """
    worth, lengths, owners = [], [], []
    for layer, own in enumerate(scores.values()):
        own = own.double().cpu().sort(descending=True).values
        relative = own / own.mean().clamp(min=torch.finfo(torch.float64).tiny)
        padding = -len(own) % multiple_of
        length = torch.full(((len(own) + padding) // multiple_of,), multiple_of)
        length[-1] -= padding
        value = F.pad(relative, (0, padding)).view(-1, multiple_of).sum(dim=1) / length
        value[0] = torch.inf
        worth, lengths = [*worth, value], [*lengths, length]
        owners.append(torch.full_like(length, layer))
    worth, lengths, owners = torch.cat(worth), torch.cat(lengths), torch.cat(owners)
    order = torch.argsort(worth, descending=True, stable=True)
    kept = order[lengths[order].cumsum(dim=0) <= total]
    sizes = torch.zeros(len(scores), dtype=torch.long).index_add(0, owners[kept], lengths[kept])
    return dict(zip(scores, sizes.tolist(), strict=True))


def check_no_experts(mlps: Sequence[MLP]) -> None:
    """Refuse mixtures: their experts are stacked in one tensor and share a size."""
    if mixed := [mlp.name for mlp in mlps if mlp.experts is not None]:
        raise WidthPruneError(
            f"global widths need MLPs without experts, and {mixed[0]} is a mixture: prune it without them"
        )


def listed_units(widths: Mapping[str, Width], sizes: Mapping[str, int]) -> dict[Width, int] | None:
    """What every width becomes when the config holds a list, one size a layer; None if it does not."""
    units = {widths[name]: size for name, size in sizes.items()}
    listed = len(units) == len(sizes) and all(width.index is not None for width in units)
    return units if listed else None


def unsaveable(model: nn.Module, widths: Mapping[str, Width]) -> str:
    """One line for a model whose config has one size for all layers."""
    fields = ", ".join(dict.fromkeys(width.field for width in widths.values()))
    return (
        f"{type(model).__name__} with a width of its own in each layer cannot be saved: "
        f"{type(text_config(model)).__name__} has one {fields} for all layers, and transformers could not "
        "load it again; prune it without global widths"
    )


def forbid_saving(model: nn.Module, widths: Mapping[str, Width], sizes: Mapping[str, int]) -> None:
    """Let the config tell the true sizes, and ``save_pretrained`` refuse a model that would not reload."""
    # Not by setattr, which newer transformers check against the field's type: the list is the truth.
    vars(text_config(model))[next(iter(widths.values())).field] = list(sizes.values())
    reason = unsaveable(model, widths)

    def refuse(*args, **options):
        raise WidthPruneError(reason)

    model.save_pretrained = refuse
