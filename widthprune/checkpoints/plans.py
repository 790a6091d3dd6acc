"""What pruning a checkpoint will write, known from its headers and config alone. No torch.

A plan for a model of any size answers at once: the weights are not read, and torch and transformers
are imported only if the config leaves a field to its default.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..criteria import find_criterion
from ..errors import WidthPruneError, remote_code_remedy
from ..layouts import MLP, Part, find_layouts
from ..models.files import TOKENIZER, check_config, check_model, names_beside, read_object
from ..widths import FIELDS, check_family, config_changes, find_widths, hidden_size, kept_sizes, kept_units
from .shards import DTYPES, Stored, read_headers, stamps

LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")  # fields with the number of layers
NO_TOKENIZER = "the source holds no tokenizer, and neither will the result"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's tensors, the MLPs among them, and its config, none of the weights read."""

    directory: Path
    config: dict
    tensors: dict[str, Stored]
    mlps: list[MLP]
    fields: Mapping  # of the text config, with defaults if config.json left out a size
    widths: dict  # MLP name to `widths.Width`
    stamps: Mapping  # `shards.stamps` from before anything was read


@dataclass(frozen=True)
class Plan:
    """Sizes, parameters and bytes of one pruned checkpoint, before and after."""

    criterion: str
    target: str  # the options that lead here, as on the command line
    sizes: dict[str, tuple[int, int]]  # config field: before, after
    hidden_size: int
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int
    bytes_free: int  # on the disk of the destination
    notes: tuple[str, ...] = ()  # what the result will lack

    @property
    def size_after(self) -> int:
        """Neurons after, of the first of `sizes` (most models have one)."""
        return next(iter(self.sizes.values()))[1]

    def rows(self) -> list[tuple[str, str, str]]:
        """The table: what, before, after."""
        rows = []
        for field, sizes in self.sizes.items():
            own = "" if len(self.sizes) == 1 else f" ({field})"
            rows.append((f"intermediate size{own}", *(f"{size:,}" for size in sizes)))
            rows.append((f"expansion ratio{own}", *(f"{size / self.hidden_size:.3f}" for size in sizes)))
        rows.append(("parameters", f"{self.parameters_before:,}", f"{self.parameters_after:,}"))
        return rows

    def __str__(self):
        rows = [
            *self.rows(),
            ("weights, GB", f"{self.bytes_before / 1e9:.2f}", f"{self.bytes_after / 1e9:.2f}"),
            ("free on disk, GB", "", f"{self.bytes_free / 1e9:.2f}"),
        ]
        width = max(len(row[0]) for row in rows) + 1
        lines = [f"{a:{width}}{b:>18}{c:>18}" for a, b, c in [("", "before", "after"), *rows]]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def open_checkpoint(source: Path) -> Checkpoint:
    """Read config and headers, find the MLPs and the fields that hold their sizes.

    Raises
    ------
    WidthPruneError
        If a file is missing or damaged, the weights are quantized or pickled, the layout is not known,
        or config and tensors disagree.
    """
    noted = stamps(source)  # first: what is read from here on is to be of one model
    config = _read_config(source)
    text = text_section(config)
    check_family({**text, "is_encoder_decoder": config.get("is_encoder_decoder")}, str(source))
    tensors = read_headers(source)
    # Else transformers would build them all before it is found that they are too many.
    if many := [name for name in LAYERS if (text.get(name) or 0) > len(tensors)]:
        raise WidthPruneError(
            f"{source / 'config.json'} says {many[0]} {text[many[0]]}, more than there are tensors: copy it again"
        )
    shapes = {name: stored.shape for name, stored in tensors.items()}
    model_type = text.get("model_type", config.get("model_type", ""))
    mlps = find_layouts(shapes, model_type, hidden_size(text), str(source))
    for mlp in mlps:
        for part in mlp.parts:
            _check_part(part, tensors)
    try:
        widths = find_widths(mlps, text, str(source))
    except WidthPruneError:
        # A size that config.json leaves to its default.
        text = {**_defaults(source), **text}
        widths = find_widths(mlps, text, str(source))
    return Checkpoint(source, config, tensors, mlps, text, widths, noted)


def _check_part(part: Part, tensors: Mapping[str, Stored]) -> None:
    """Refuse a tensor of numbers that cannot be pruned, and a matrix whose bias is not the one of its shape."""
    if tensors[part.tensor].dtype not in DTYPES:
        raise WidthPruneError(
            f"{part.tensor} holds {tensors[part.tensor].dtype} weights: prune the unquantized model, "
            "then quantize the result"
        )
    if part.role == "bias":
        return
    *experts, rows, columns = tensors[part.tensor].shape
    # A matrix is stored (out, in), unless the neurons are on the other axis; the bias is of what comes out.
    fits = (*experts, rows if (part.role == "input") == (part.axis == 0) else columns)
    base = part.tensor.removesuffix(".weight")
    for bias in {f"{base}.bias", f"{base}_bias"} & tensors.keys():
        if (found := tensors[bias].shape) != fits:
            raise WidthPruneError(
                f"{bias} has shape {found} and must have {fits}, as {part.tensor} has {(*experts, rows, columns)}: "
                "copy the weights again"
            )


def text_section(config: dict) -> dict:
    """The language model's part of a config.json: of a multimodal model, a section of its own."""
    sections = (config.get(name) for name in ("text_config", "decoder", "generator"))
    return next((section for section in sections if isinstance(section, dict)), config)


def _read_config(source: Path) -> dict:
    check_model(source)
    config = read_object(source, "config.json")
    check_config(source)
    text = text_section(config)
    quantization = config.get("quantization_config") or text.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        method = method if isinstance(method, str) and method.isprintable() else "an unknown method"
        raise WidthPruneError(
            f"{source} is quantized ({method:.40}): prune the unquantized model, then quantize the result"
        )
    _check_fields(source, config)
    _check_fields(source, text)
    if "auto_map" in config:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

        if config.get("model_type") not in CONFIG_MAPPING_NAMES:
            raise WidthPruneError(remote_code_remedy(str(source)))
    return config


def _check_fields(source: Path, section: dict) -> None:
    """Refuse fields that are read here and hold what no config holds: a list for a name, text for a size."""
    kinds = {
        "model_type": lambda value: isinstance(value, str) and value.isprintable(),
        "activation_sparsity_pattern": lambda value: isinstance(value, list),
        **dict.fromkeys(LAYERS, _is_size),
        **dict.fromkeys((field for fields in FIELDS.values() for field in fields), _are_sizes),
    }
    for field, fits in kinds.items():
        if (value := section.get(field)) is not None and not fits(value):
            raise WidthPruneError(f"{source / 'config.json'} says {field} {value!r:.60}: copy it again")


def _is_size(value) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _are_sizes(value) -> bool:
    return bool(value) and all(map(_is_size, value)) if isinstance(value, list) else _is_size(value)


def _defaults(source: Path) -> dict:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False).get_text_config().to_dict()
    except Exception:
        return {}  # what is missing is then refused by name


def make_plan(
    checkpoint: Checkpoint, criterion: str, *, bytes_free: int, multiple_of: int = 1, seed: int = 0, **target
) -> tuple[Plan, dict[str, int], dict]:
    """(plan, neurons kept by MLP name, changes to the config's fields) for one ``pruning_pct`` or
    ``expansion_ratio``; see `kept_units` for what is refused."""
    mlps, widths, tensors = checkpoint.mlps, checkpoint.widths, checkpoint.tensors
    units = kept_units(mlps, widths, multiple_of=multiple_of, **target)
    sizes = kept_sizes(mlps, widths, units)
    shapes = pruned_shapes(checkpoint, sizes)
    options = [f"--{name.replace('_', '-')} {value:g}" for name, value in target.items() if value is not None]
    options += [f"--multiple-of {multiple_of}"] * (multiple_of != 1)
    options += [f"--seed {seed}"] * find_criterion(criterion).seeded
    plan = Plan(
        criterion,
        " ".join(options),
        {str(width): (width.unit, unit) for width, unit in units.items()},
        mlps[0].hidden_size,
        sum(math.prod(stored.shape) for stored in tensors.values()),
        sum(math.prod(shape) for shape in shapes.values()),
        sum(stored.nbytes for stored in tensors.values()),
        sum(tensors[name].nbytes_of(shape) for name, shape in shapes.items()),
        bytes_free,
        () if names_beside(checkpoint.directory, TOKENIZER) else (NO_TOKENIZER,),
    )
    return plan, sizes, config_changes(checkpoint.fields, units)


def pruned_shapes(checkpoint: Checkpoint, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of the checkpoint when the MLPs keep ``sizes`` neurons."""
    shapes = {name: stored.shape for name, stored in checkpoint.tensors.items()}
    for mlp in checkpoint.mlps:
        for part in mlp.parts:
            shapes[part.tensor] = part.pruned_shape(shapes[part.tensor], sizes[mlp.name])
    return shapes
