"""What a long run needs, looked at before it starts: arguments, criteria, the model's files, the places it writes to.

The same checks make a dry run: it ends well only if the run would start.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from huggingface_hub import HfApi
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, GenerationConfig

from ..architectures import meta_model
from ..calibration import Calibration, check_length
from ..checkpoints.described import check_described
from ..checkpoints.shards import read_headers
from ..commands.options import (
    Number,
    check_model_name,
    check_writable,
    nearest,
)
from ..criteria import GLOBAL, find_criterion
from ..errors import WidthPruneError
from ..models.files import INDEX, WEIGHTS, weight_files
from ..models.hub import check_weights
from ..models.loading import load_tokenizer, local_directory, meta_model_of
from ..models.packaged import PACKAGED
from ..models.remedies import remedied
from ..report.atomic import partial_prefix
from ..variants.prune import check_variant
from .grid import Point
from .suites import Benchmark


def check_numbers(numbers: dict[Number, dict]) -> None:
    """Refuse the arguments that are no number of their kind; one that is None has its default."""
    for number, values in numbers.items():
        for name, value in values.items():
            if value is not None:
                number.check(name, value)


def check_ready(name: str, *, tokenizer: bool = True) -> None:
    """Refuse a model that could not be loaded and generate text, from its config and its files' headers alone.

    Parameters
    ----------
    name : str
        As for `load_model`.
    tokenizer : bool
        Whether it needs one.

    Raises
    ------
    WidthPruneError
        If weights or the tokenizer are missing or damaged, or the checkpoint is of a class that
        transformers does not load as a language model, such as a classifier or some multimodal ones.
    """
    check_model_name(name)
    source = local_directory(name, weights=False)
    with remedied(name, source):  # transformers meets odd fields of a config with exceptions of every kind
        _check_class_and_weights(name, source)
    if tokenizer:
        _check_tokenizer(name, source)


def _check_class_and_weights(name: str, source: Path) -> None:
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if (source / "generation_config.json").exists():
        GenerationConfig.from_pretrained(source)  # which loading the model does as well
    loaded = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    own = config.architectures or [loaded.__name__ if loaded else config.model_type]
    # A class with another head would be given a random one.
    if loaded is None or loaded.__name__ not in own:
        raise WidthPruneError(
            f"{name} holds a {own if isinstance(own, str) else own[0]}, which transformers does not load as a language model: "
            "name a checkpoint of the language model alone"
        )
    wanted = weight_files(source)
    here = name in PACKAGED or Path(name).exists()
    if here or (wanted and all((source / file).is_file() for file in wanted)):
        shapes = {tensor: stored.shape for tensor, stored in read_headers(source).items()}
        if not wanted:  # of other names, which pruning reads and loading does not
            raise WidthPruneError(
                f"{name} holds safetensors files, and neither {WEIGHTS} nor {INDEX}: copy the index of its parts as well"
            )
        check_described(meta_model(config), shapes, name)
    else:
        check_weights(name, wanted or [WEIGHTS])


def _check_tokenizer(name: str, source: Path) -> None:
    found = load_tokenizer(source)
    if found is None:
        raise WidthPruneError(
            f"{name} holds no tokenizer: copy the files of its tokenizer beside the weights, or name a model with one"
        )
    # lm-eval puts one before a text that has no beginning.
    if found.eos_token_id is None and found.bos_token_id is None:
        raise WidthPruneError(
            f"the tokenizer of {name} names no token that begins or ends a text: copy its tokenizer_config.json again"
        )


def check_variants(model: str, points: Iterable[Point], calibration: Calibration) -> None:
    """Refuse, before hours of measuring, a point whose model could not be made.

    Raises
    ------
    WidthPruneError
        As `widthprune.variants.prune.check_variant`, and if the model cannot read the text that a criterion looks at; it
        begins with the model's name.
    """
    variants = {(point.criterion.removesuffix(GLOBAL), point.global_widths) for point in points}
    variants = [(find_criterion(name), across) for name, across in sorted(variants - {("none", False)})]
    # The paper's own way asks nothing of a model that was not asked before.
    variants = [(it, across) for it, across in variants if it.needs_text or it.adds_bias or across]
    if not variants:
        return
    source, longest = local_directory(model, weights=False), 0
    if any(criterion.needs_text for criterion, _ in variants):
        longest = max(map(len, calibration.token_sequences(load_tokenizer(source))))
    with remedied(model, source):
        described = meta_model_of(source)
        for criterion, global_widths in variants:
            check_variant(described, criterion, global_widths)
        check_length(described, longest)


def check_data(benchmarks: Sequence[Benchmark]) -> None:
    """Refuse tasks of which none has data, or whose data would be fetched from a hub that does not answer."""
    if all(found.missing for found in benchmarks):
        raise WidthPruneError(f"tasks: none can be measured: {benchmarks[0].task}: {benchmarks[0].missing}")
    from_hub = [found.task for found in benchmarks if found.data == "hub" and not found.missing]
    if not from_hub or {"HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"} & set(os.environ):
        return
    try:
        next(iter(HfApi().list_datasets(limit=1)))
    except Exception:
        raise WidthPruneError(
            f"{from_hub[0]} reads its data from the hub, which cannot be reached: check the network, or set "
            "WIDTHPRUNE_DATA to a directory that holds the data"
        ) from None


def check_results_dir(folder: str | Path, files: Iterable[Path], option: str = "results_dir") -> None:
    """Refuse a results directory, which an ``option`` named, in which these files could not be written."""
    files, asked = list(files), f"{option} must be a folder that can be written"
    # A model's own folder may be somebody's file, or another user's.
    for place in dict.fromkeys([Path(folder), *(file.parent for file in files)]):
        check_writable(asked, place)
    for file in files:
        try:
            # The file is first written under a name that is this much longer.
            nearest(file.with_name(f"{partial_prefix(file)}12345678.partial"))
        except OSError as error:
            raise WidthPruneError(f"{asked}: {file} ({error.strerror})") from None
