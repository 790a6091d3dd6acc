"""Prune a checkpoint on disk, MLP by MLP: memory for a few matrices, whatever the model's size.

The result is the one that `prune_model` and ``save_pretrained`` give; a test compares them.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..commands.options import PERCENTAGE, RATIO, SEED, check_list, check_path
from ..criteria import find_criterion
from ..errors import COPY_AGAIN, WidthPruneError, first_line
from ..layouts import MLP, Part
from ..models.files import INDEX, WEIGHTS, copy_beside
from ..models.packaged import PACKAGED
from .cards import model_card
from .described import check_described
from .destination import check_destination, existing_parent, moved_into_place, sweep
from .plans import Checkpoint, Plan, make_plan, open_checkpoint, pruned_shapes, text_section
from .shards import Stored, check_unchanged, copy_bytes, create_file, read_tensor, write_from

NUMBERS = {"pruning_pct": PERCENTAGE, "expansion_ratio": RATIO}
WORKERS = 2  # one computes while the other waits for the disk; each holds one MLP or expert


@dataclass(frozen=True)
class Target:
    """One pruned checkpoint being written."""

    directory: Path
    plan: Plan
    sizes: dict[str, int]  # neurons kept, by MLP name
    changes: dict  # fields of the config
    places: dict[str, Stored]  # where each tensor goes, by name


def prune_checkpoint(
    src: str | Path,
    dst: str | Path,
    criterion: str = "PPM",
    *,
    pruning_pct: float | Sequence[float] | None = None,
    expansion_ratio: float | Sequence[float] | None = None,
    multiple_of: int = 1,
    seed: int = 0,
    dry_run: bool = False,
    progress: bool = True,
) -> Plan | list[Plan]:
    """Prune a safetensors checkpoint into a new directory without loading the model.

    MLPs are read, scored, sliced and written one after another, each tensor once, however many ratios
    are asked for. The shards of the result have the names of the source's. Everything is written beside
    ``dst`` and moved into place at the end: interrupted at any moment, ``dst`` is absent, and another
    run starts over, after it has removed what a killed one left. Of two runs at once one is refused.

    Parameters
    ----------
    src : str or Path
        A packaged model's name, a local directory or a hub id, as for `load_model`.
    dst : str or Path
        Directory to write; must not exist. With a sequence of targets it holds one model for each, in
        directories named for them: ``expansion-ratio-2.4``, ``pruning-pct-40``.
    criterion, multiple_of, seed
        As for `prune_model`.
    pruning_pct, expansion_ratio
        As for `prune_model`, or a sequence of such values.
    dry_run : bool
        Only check and plan, all that a run would; nothing is read but config and headers, and nothing is
        written.
    progress : bool
        Show a bar on stderr, if that is a terminal.

    Returns
    -------
    Plan, or list of Plan for a sequence of targets
        Sizes, parameters and bytes, before and after.

    Raises
    ------
    WidthPruneError
        If an argument is out of range, ``dst`` exists, lies inside ``src``, cannot be written or is just
        being written by another process; if the disk is too small; or if the checkpoint is damaged,
        quantized, in pickle format, of a layout that is not known, names files outside itself, or is
        changed by somebody meanwhile.
        Nothing is left behind and the source is never written to.
    """
    record = find_criterion(criterion)
    criterion = record.name
    SEED.check("seed", seed)
    for name, path in {"src": src, "dst": dst}.items():
        check_path(name, path)
    if record.needs_text:
        raise WidthPruneError(
            f"criterion {criterion} looks at data, and passing over the weights shows none: use "
            "checkpoints.loaded.prune_loaded or `widthprune prune`, which load the model"
        )
    dst, source = Path(dst), _local(src)
    check_destination(dst, source)
    sweep(dst)
    checkpoint = open_checkpoint(source)
    wanted, several = _targets({"pruning_pct": pruning_pct, "expansion_ratio": expansion_ratio})
    free = shutil.disk_usage(existing_parent(dst)).free
    options = dict(bytes_free=free, multiple_of=multiple_of, seed=seed)
    planned = [make_plan(checkpoint, criterion, **options, **target) for target in wanted]
    plans = [plan for plan, _, _ in planned]
    check_disk(dst, plans)
    _check_config(checkpoint, planned)
    if not dry_run:
        with moved_into_place(dst) as partial:
            directories = [partial / _name(target) if several else partial for target in wanted]
            targets = [
                _start(checkpoint, directory, *plan)
                for directory, plan in zip(directories, planned, strict=True)
            ]
            _write_weights(checkpoint, targets, criterion, seed, progress)
            for target in targets:
                _write_rest(checkpoint, target, str(src))
            check_unchanged(checkpoint.directory, checkpoint.stamps)
    return plans if several else plans[0]


def _local(src: str | Path) -> Path:
    try:
        if str(src) not in PACKAGED and Path(src).is_dir():
            return Path(src)
    except OSError as error:
        raise WidthPruneError(f"{str(src)[:80]!r} cannot be read ({error.strerror})") from None
    from ..models.loading import local_directory

    return Path(local_directory(str(src)))


def _targets(values: Mapping) -> tuple[list[dict], bool]:
    """Every target as keywords of `kept_size`, and whether there was a sequence of them."""
    lists = [
        name for name, value in values.items() if isinstance(value, Sequence) and not isinstance(value, str)
    ]
    if not lists:
        return [dict(values)], False
    wanted = [
        {**values, lists[0]: value} for value in check_list(lists[0], values[lists[0]], NUMBERS[lists[0]])
    ]
    if not wanted or len({_name(target) for target in wanted}) < len(wanted):
        raise WidthPruneError(f"{lists[0]} must list values that differ, got {list(values[lists[0]])}")
    return wanted, True


def _name(target: Mapping) -> str:
    return next(f"{name.replace('_', '-')}-{value:g}" for name, value in target.items() if value is not None)


def _check_config(checkpoint: Checkpoint, planned) -> None:
    """Refuse if transformers, given the pruned config, would build other MLPs than will be written."""
    from ..mlps import check_layout
    from ..models.loading import meta_model_of

    for _, sizes, changes in planned:
        written = {(m.layer, m.kind, m.experts, m.hidden_size, sizes[m.name]) for m in checkpoint.mlps}
        try:
            model = meta_model_of(checkpoint.directory, changes)
        except Exception as error:
            raise WidthPruneError(
                f"{checkpoint.directory}: transformers cannot build a model from the pruned config "
                f"({first_line(error):.200}): {COPY_AGAIN}"
            ) from error
        for mlp in check_layout(model):
            built = (mlp.layer, mlp.kind, mlp.experts, mlp.hidden_size, mlp.size)
            if built not in written:
                raise WidthPruneError(
                    f"{checkpoint.directory}: from the pruned config transformers builds {mlp.name} with "
                    f"{mlp.size} neurons, and no tensors of the checkpoint fit it: it cannot be pruned"
                )
        check_described(model, pruned_shapes(checkpoint, sizes), str(checkpoint.directory))


def _start(checkpoint: Checkpoint, directory: Path, plan: Plan, sizes, changes) -> Target:
    """The directory of one result, with the headers of its files."""
    directory.mkdir(parents=True, exist_ok=True)
    shapes = pruned_shapes(checkpoint, sizes)
    places = {}
    for file in dict.fromkeys(stored.file for stored in checkpoint.tensors.values()):
        own = [stored for stored in checkpoint.tensors.values() if stored.file == file]
        places |= create_file(directory / file.relative_to(checkpoint.directory), own, shapes)
    return Target(directory, plan, sizes, changes, places)


def _write_weights(checkpoint: Checkpoint, targets: list[Target], criterion, seed, progress) -> None:
    from tqdm.auto import tqdm

    work = _work(checkpoint, targets, criterion, seed)
    total = sum(stored.nbytes for stored in checkpoint.tensors.values())
    with (
        tqdm(
            total=total, unit="B", unit_scale=True, desc="pruning", disable=None if progress else True
        ) as bar,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
        futures = [pool.submit(*task) for task in work]
        try:
            for future in futures:
                bar.update(future.result())
        finally:
            pool.shutdown(cancel_futures=True)


def _work(checkpoint: Checkpoint, targets: list[Target], criterion, seed) -> list[tuple]:
    """Calls that together write every tensor, in the order of the source's bytes."""
    owners = {}
    for layer, mlp in enumerate(checkpoint.mlps):
        for part in mlp.parts:
            owners[part.tensor] = (layer, mlp, None if part.stacked else part.expert)
    work, seen = [], set()
    for stored in checkpoint.tensors.values():
        if stored.name not in owners:
            work.append((_copy, stored, [target.places[stored.name] for target in targets]))
            continue
        layer, mlp, expert = owners[stored.name]
        if (layer, expert) in seen:
            continue
        seen.add((layer, expert))
        stacked = mlp.experts is not None and expert is None
        for own in range(mlp.experts) if stacked else [expert]:
            work.append((_prune, checkpoint, mlp, own, targets, criterion, (seed, layer)))
    return work


def _copy(stored: Stored, places: list[Stored]) -> int:
    copy_bytes(stored, places)
    return stored.nbytes


def _prune(checkpoint: Checkpoint, mlp: MLP, expert, targets: list[Target], criterion, seed) -> int:
    """Read, score, slice and write one MLP or expert; the number of bytes read."""
    import torch

    from ..scores import check_output, kept_indices, mlp_seed, score_mlp
    from ..slicing import neuron_rows, slice_part

    parts = mlp.of_expert(expert)
    tensors = {part: read_tensor(_slab(checkpoint.tensors[part.tensor], part, expert)) for part in parts}
    rows = []
    for part, tensor in tensors.items():
        if part.role == "input":
            rows += neuron_rows(tensor, part)
        elif part.role == "output":
            check_output(part.tensor, tensor)
    scores = score_mlp(mlp.name, *(*rows, None)[:2], criterion, seed=mlp_seed(*seed, expert))
    for target in targets:
        kept = kept_indices(scores, target.sizes[mlp.name])
        for part, tensor in tensors.items():
            sliced = slice_part(tensor, part, kept)
            place = _slab(target.places[part.tensor], part, expert)
            write_from(place, sliced.view(-1).view(torch.uint8).numpy())
    return sum(tensor.nbytes for tensor in tensors.values())


def _slab(stored: Stored, part: Part, expert: int | None) -> Stored:
    return stored.slab(expert) if part.stacked else stored


def _write_rest(checkpoint: Checkpoint, target: Target, name: str) -> None:
    source, directory = checkpoint.directory, target.directory
    copy_beside(source, directory)
    # Without one, transformers finds a file of this name alone.
    if {place.file for place in target.places.values()} != {directory / WEIGHTS}:
        plan = target.plan
        index = {
            "metadata": {"total_parameters": plan.parameters_after, "total_size": plan.bytes_after},
            "weight_map": {
                name: place.file.relative_to(directory).as_posix()
                for name, place in sorted(target.places.items())
            },
        }
        _write_json(directory / INDEX, index)
    (directory / "README.md").write_text(model_card(target.plan, name), encoding="utf-8")
    config = json.loads(json.dumps(checkpoint.config))
    text_section(config).update(target.changes)
    _write_json(directory / "config.json", config)


def _write_json(file: Path, content: dict) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check_disk(dst: Path, plans: list[Plan]) -> None:
    free, needed = plans[0].bytes_free, sum(plan.bytes_after for plan in plans)
    if free < needed:
        raise WidthPruneError(
            f"{existing_parent(dst)} has {free / 1e6:,.1f} MB free and the result needs {needed / 1e6:,.1f} MB: "
            "make room or write elsewhere"
        )
