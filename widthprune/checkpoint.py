"""Prune a checkpoint on disk, tensor by tensor: memory for a few matrices, whatever the model's size.

The result is the one that `prune_model` and ``save_pretrained`` give; a test compares them. Reading is
done here and not by safetensors, whose memory map would count the whole file as resident, and which
cannot write a file that does not fit in memory.
"""

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from .criteria import check_criterion
from .errors import WidthPruneError
from .models import local_directory, pickle_remedy, remote_code_remedy
from .pruning import check_output, score_mlp
from .sizes import kept_size
from .slicing import kept_indices

INDEX = "model.safetensors.index.json"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
GATE, UP, DOWN = "gate_proj", "up_proj", "down_proj"
# Weights in other formats, code, and the card that is written anew; all else beside the weights is copied.
NOT_COPIED = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".py", ".md")
CHUNK = 16 * 2**20  # bytes copied at a time


@dataclass(frozen=True)
class Stored:
    """One tensor of a safetensors file: where its bytes lie."""

    name: str
    file: Path
    dtype: str  # as safetensors names it
    shape: tuple[int, ...]
    start: int
    nbytes: int


@dataclass(frozen=True)
class Plan:
    """What pruning a checkpoint will write, known from its headers alone."""

    criterion: str
    size_before: int
    size_after: int
    hidden_size: int
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int
    bytes_free: int  # on the disk of the destination

    def __str__(self):
        rows = [
            ("intermediate size", f"{self.size_before:,}", f"{self.size_after:,}"),
            (
                "expansion ratio",
                f"{self.size_before / self.hidden_size:.3f}",
                f"{self.size_after / self.hidden_size:.3f}",
            ),
            ("parameters", f"{self.parameters_before:,}", f"{self.parameters_after:,}"),
            ("weights, GB", f"{self.bytes_before / 1e9:.2f}", f"{self.bytes_after / 1e9:.2f}"),
        ]
        lines = [f"{'':18}{'before':>18}{'after':>18}"] + [f"{a:18}{b:>18}{c:>18}" for a, b, c in rows]
        lines.append(f"{'free on disk, GB':18}{'':18}{self.bytes_free / 1e9:>18.2f}")
        return "\n".join(lines)


def prune_checkpoint(
    src: str | Path,
    dst: str | Path,
    criterion: str = "PPM",
    *,
    pruning_pct: float | None = None,
    expansion_ratio: float | None = None,
    multiple_of: int = 1,
    seed: int = 0,
    dry_run: bool = False,
    progress: bool = True,
) -> Plan:
    """Prune a safetensors checkpoint into a new directory without loading the model.

    Layers are read, scored, sliced and written one after another, each tensor once. The shards of the
    result have the names of the source's. Everything is written beside ``dst`` and moved into place at
    the end: interrupted at any moment, ``dst`` is absent, and another run starts over.

    Parameters
    ----------
    src : str or Path
        A packaged model's name, a local directory or a hub id, as for `load_model`.
    dst : str or Path
        Directory to write; must not exist.
    criterion, pruning_pct, expansion_ratio, multiple_of, seed
        As for `prune_model`.
    dry_run : bool
        Only check and plan; nothing is read but headers, and nothing is written.
    progress : bool
        Show a bar on stderr.

    Returns
    -------
    Plan
        Sizes, parameters and bytes, before and after.

    Raises
    ------
    WidthPruneError
        If an argument is out of range, ``dst`` exists or lies inside ``src``, the disk is too small, or
        the checkpoint is damaged, quantized, in pickle format, or without gate, up and down projections.
        Nothing is left behind and the source is never written to.
    """
    criterion = check_criterion(criterion)
    dst = Path(dst)
    source = Path(local_directory(str(src)))
    if dst.exists():
        raise WidthPruneError(f"destination {dst} exists already: name a new directory")
    if source.resolve() in dst.resolve().parents:
        raise WidthPruneError(f"destination {dst} lies inside the source {source}: name one elsewhere")
    config = _read_config(source)
    tensors = _read_headers(source)
    mlps = _find_mlps(tensors, source)
    text = config.get("text_config", config)
    before, hidden = _check_sizes(mlps, tensors, text, source)
    after = kept_size(
        before, hidden, pruning_pct=pruning_pct, expansion_ratio=expansion_ratio, multiple_of=multiple_of
    )
    pruned = {name: _pruned_shape(stored, mlps, after) for name, stored in tensors.items()}
    plan = Plan(
        criterion,
        before,
        after,
        hidden,
        sum(math.prod(t.shape) for t in tensors.values()),
        sum(math.prod(shape) for shape in pruned.values()),
        sum(t.nbytes for t in tensors.values()),
        sum(_nbytes(tensors[name], shape) for name, shape in pruned.items()),
        shutil.disk_usage(_existing(dst)).free,
    )
    if dry_run:
        return plan
    _check_disk(dst, plan)

    # The dot and the missing config keep loaders away from what is not whole yet.
    partial = dst.parent / f".{dst.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        kept = _Kept(tensors, mlps, criterion, after, seed)
        with tqdm(
            total=plan.bytes_before, unit="B", unit_scale=True, desc="pruning", disable=not progress
        ) as bar:
            for file in dict.fromkeys(t.file for t in tensors.values()):
                own = [t for t in tensors.values() if t.file == file]
                _write_shard(partial / file.name, own, pruned, kept, mlps, bar)
        _write_rest(source, partial, config, plan, str(src))
        os.rename(partial, dst)
    except OSError as error:
        raise WidthPruneError(
            f"{dst} cannot be written ({error.strerror or error}): nothing is left of it"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return plan


def _read_config(source: Path) -> dict:
    try:
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WidthPruneError(
            f"{source} has no config.json: name a directory that save_pretrained wrote"
        ) from None
    except ValueError:
        raise WidthPruneError(f"{source / 'config.json'} is damaged: copy it again") from None
    if "quantization_config" in config:
        method = config["quantization_config"].get("quant_method", "an unknown method")
        raise WidthPruneError(
            f"{source} is quantized ({method}): prune the unquantized model, then quantize the result"
        )
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if "auto_map" in config and config.get("model_type") not in CONFIG_MAPPING_NAMES:
        raise WidthPruneError(remote_code_remedy(str(source)))
    return config


def _read_headers(source: Path) -> dict[str, Stored]:
    """Every tensor of the checkpoint, in the order of the files."""
    index = source / INDEX
    if index.exists():
        try:
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        except (ValueError, KeyError):
            raise WidthPruneError(f"{index} is damaged: copy it again") from None
        files = [source / name for name in dict.fromkeys(weight_map.values())]
    else:
        # A file of that name is the model; others may hold the same weights in another layout.
        single = source / "model.safetensors"
        weight_map, files = None, [single] if single.exists() else sorted(source.glob("*.safetensors"))
    if not files:
        if any(source.glob("*.bin")):
            raise WidthPruneError(pickle_remedy(str(source)))
        raise WidthPruneError(
            f"{source} holds no safetensors weights: name a directory that save_pretrained wrote"
        )
    tensors = {}
    for file in files:
        if not file.exists():
            raise WidthPruneError(f"{file} is missing, though {INDEX} names it: copy it again")
        for stored in _read_header(file):
            tensors[stored.name] = stored
    if weight_map and (absent := [name for name in weight_map if name not in tensors]):
        raise WidthPruneError(f"{index} names {absent[0]}, which no file holds: copy the checkpoint again")
    return tensors


def _read_header(file: Path) -> Iterator[Stored]:
    damaged = WidthPruneError(f"{file} is a damaged safetensors file: download or copy it again")
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= size - 8:
            raise damaged
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
            for name, entry in entries:
                start, end = entry["data_offsets"]
                if not 0 <= start <= end <= size - 8 - length:
                    raise damaged
                yield Stored(
                    name, file, entry["dtype"], tuple(entry["shape"]), 8 + length + start, end - start
                )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise damaged from None


def _find_mlps(tensors: dict[str, Stored], source: Path) -> dict[str, int]:
    """Prefixes of the GLU MLPs, numbered in the order of the layers, as `find_glus` finds them."""
    prefixes = [name.removesuffix(f"{GATE}.weight") for name in tensors if name.endswith(f".{GATE}.weight")]
    if not prefixes:
        raise WidthPruneError(
            f"{source} has no GLU MLP (gate_proj, up_proj, down_proj): choose a Llama, Mistral, Qwen2 or Gemma type model"
        )
    prefixes.sort(key=lambda prefix: [int(part) if part.isdigit() else part for part in prefix.split(".")])
    for prefix in prefixes:
        for projection in (UP, DOWN):
            if f"{prefix}{projection}.weight" not in tensors:
                raise WidthPruneError(
                    f"{source} has {prefix}{GATE} without {prefix}{projection}: copy it again"
                )
        for projection in (GATE, UP, DOWN):
            stored = tensors[f"{prefix}{projection}.weight"]
            if stored.dtype not in DTYPES:
                raise WidthPruneError(
                    f"{stored.name} holds {stored.dtype} weights: prune the unquantized model, then quantize the result"
                )
    return {prefix: layer for layer, prefix in enumerate(prefixes)}


def _check_sizes(mlps, tensors, text_config, source) -> tuple[int, int]:
    size, hidden = text_config.get("intermediate_size"), text_config.get("hidden_size")
    for prefix in mlps:
        shapes = [tensors[f"{prefix}{projection}.weight"].shape for projection in (GATE, UP, DOWN)]
        if shapes != [(size, hidden), (size, hidden), (hidden, size)]:
            raise WidthPruneError(
                f"{source}: config.json says intermediate_size {size} and hidden_size {hidden}, but {prefix}{GATE}, "
                f"{UP} and {DOWN} are {', '.join(map(str, shapes))}: models with MLPs of several sizes are not supported"
            )
    return size, hidden


def _role(name: str, mlps) -> tuple[str, str] | None:
    """(prefix of the MLP, "gate_proj.weight" or the like) of a tensor that pruning cuts, else None."""
    prefix, _, kind = name.rpartition(".")
    prefix, _, projection = prefix.rpartition(".")
    prefix += "."
    if prefix in mlps and projection in (GATE, UP, DOWN) and f"{projection}.{kind}" != f"{DOWN}.bias":
        return prefix, f"{projection}.{kind}"
    return None


def _pruned_shape(stored: Stored, mlps, size: int) -> tuple[int, ...]:
    role = _role(stored.name, mlps)
    if role is None:
        return stored.shape
    return (stored.shape[0], size) if role[1] == f"{DOWN}.weight" else (size, *stored.shape[1:])


def _nbytes(stored: Stored, shape: Sequence[int]) -> int:
    whole = math.prod(stored.shape)
    return stored.nbytes * math.prod(shape) // whole if whole else 0


class _Kept:
    """The neurons each layer keeps. Gate and up are read for the score and held until they are written."""

    def __init__(self, tensors, mlps, criterion, size, seed):
        self._tensors, self._mlps = tensors, mlps
        self._criterion, self._size, self._seed = criterion, size, seed
        self._indices, self._held = {}, {}

    def indices(self, prefix: str) -> Tensor:
        if prefix not in self._indices:
            gate, up = (self._hold(f"{prefix}{projection}.weight") for projection in (GATE, UP))
            seed = (self._seed, self._mlps[prefix])
            scores = score_mlp(prefix.rstrip("."), gate, up, self._criterion, seed=seed)
            self._indices[prefix] = kept_indices(scores, self._size)
        return self._indices[prefix]

    def take(self, name: str) -> Tensor:
        return self._held.pop(name) if name in self._held else _read(self._tensors[name])

    def _hold(self, name):
        self._held[name] = _read(self._tensors[name])
        return self._held[name]


def _read(stored: Stored) -> Tensor:
    if stored.dtype not in DTYPES:
        raise WidthPruneError(f"{stored.name} holds {stored.dtype} weights: prune the unquantized model")
    buffer = bytearray(stored.nbytes)
    with stored.file.open("rb", buffering=0) as stream:
        stream.seek(stored.start)
        view = memoryview(buffer)
        while view:
            view = view[stream.readinto(view) :]
    return torch.frombuffer(buffer, dtype=DTYPES[stored.dtype]).reshape(stored.shape)


def _write_shard(path: Path, own: list[Stored], pruned, kept: _Kept, mlps, bar) -> None:
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for stored in own:
        end = offset + _nbytes(stored, pruned[stored.name])
        header[stored.name] = {
            "dtype": stored.dtype,
            "shape": list(pruned[stored.name]),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    # Padded so that the data starts at a multiple of 8, as the format asks.
    text += b" " * (-len(text) % 8)
    with path.open("wb", buffering=0) as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for stored in own:
            role = _role(stored.name, mlps)
            if role is None:
                _copy_bytes(stored, out)
            else:
                prefix, kind = role
                indices = kept.indices(prefix)
                whole = kept.take(stored.name)
                if kind == f"{DOWN}.weight":
                    check_output(stored.name, whole)
                part = whole[:, indices].contiguous() if kind == f"{DOWN}.weight" else whole[indices]
                _write_all(out, part.view(-1).view(torch.uint8).numpy())
            bar.update(stored.nbytes)


def _copy_bytes(stored: Stored, out) -> None:
    with stored.file.open("rb", buffering=0) as stream:
        stream.seek(stored.start)
        left = stored.nbytes
        while left:
            chunk = stream.read(min(CHUNK, left))
            _write_all(out, chunk)
            left -= len(chunk)


def _write_all(out, data) -> None:
    # One write call takes at most 2 GiB and may take less than it was given.
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]


def _write_rest(source: Path, target: Path, config: dict, plan: Plan, name: str) -> None:
    for file in sorted(source.iterdir()):
        written = (
            file.name in (INDEX, "config.json") or file.suffix in NOT_COPIED or file.name.startswith(".")
        )
        if file.is_file() and not written:
            shutil.copyfile(file, target / file.name)
    if (source / INDEX).exists():
        index = json.loads((source / INDEX).read_text(encoding="utf-8"))
        index["metadata"] = {"total_parameters": plan.parameters_after, "total_size": plan.bytes_after}
        (target / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    (target / "README.md").write_text(_card(plan, name), encoding="utf-8")
    config.get("text_config", config)["intermediate_size"] = plan.size_after
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _card(plan: Plan, name: str) -> str:
    # A local path says nothing to others, and too much about its owner.
    base = Path(name).name if Path(name).exists() else name
    front = f"base_model: {base}\n" if base == name else ""
    ratio = plan.size_after / plan.hidden_size
    return f"""---
{front}tags:
- pruned
---

# {base}, expansion ratio {ratio:.2f}

Width-pruned from {base}: of {plan.size_before:,} neurons in every GLU MLP, the {plan.size_after:,} with the
highest {plan.criterion} score are kept. Not trained afterwards.

| | before | after |
|---|---|---|
| intermediate size | {plan.size_before:,} | {plan.size_after:,} |
| expansion ratio | {plan.size_before / plan.hidden_size:.3f} | {ratio:.3f} |
| parameters | {plan.parameters_before:,} | {plan.parameters_after:,} |

Reproduce: `widthprune prune {base} --criterion {plan.criterion} --expansion-ratio {ratio:.6g} --out DIRECTORY`

Method: Martra, *Fragile Knowledge, Robust Instruction-Following: The Width Pruning Dichotomy in Llama-3.2*,
arXiv 2512.22671.
"""


def _existing(dst: Path) -> Path:
    return next(parent for parent in dst.resolve().parents if parent.exists())


def _check_disk(dst: Path, plan: Plan) -> None:
    if plan.bytes_free < plan.bytes_after:
        raise WidthPruneError(
            f"{_existing(dst)} has {plan.bytes_free / 1e9:.2f} GB free and the result needs "
            f"{plan.bytes_after / 1e9:.2f} GB: make room or write elsewhere"
        )
