"""A GGUF file's model as a directory of bfloat16 safetensors, made once and kept."""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch
import transformers
from filelock import FileLock
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ..errors import WidthPruneError
from .saving import FULL, saving

_PACKS_GGUF = hasattr(transformers, "GgufConfig")


def cache_dir() -> Path:
    """Where converted models are kept: ``WIDTHPRUNE_CACHE``, default ``~/.cache/widthprune``."""
    if named := os.environ.get("WIDTHPRUNE_CACHE"):
        # A shell leaves a ~ within quotes as it is, and the folder would be made in the current one.
        return Path(os.path.expanduser(named))
    try:
        return Path.home() / ".cache" / "widthprune"
    except RuntimeError:  # a user without a home, such as a container's
        raise WidthPruneError("there is no home directory to keep models in: set WIDTHPRUNE_CACHE") from None


def converted(name: str, gguf: Callable[[Path], Path]) -> Path:
    """Directory with a GGUF file's model as bfloat16 safetensors; written on first use (a minute or two).

    ``gguf`` gives the file, and may write it to the path it is handed.
    """
    # An older transformers cannot read the tokenizer that a newer one wrote.
    target = cache_dir() / f"{name}-bfloat16-transformers{transformers.__version__.partition('.')[0]}"
    if target.exists():
        return target
    scratch = target.with_name(f".{target.name}")
    lock = FileLock(f"{scratch}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()  # while another process makes it, this one waits
        # What a process that was killed left: nobody else holds the lock.
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
    except OSError as error:
        raise _no_place(target, error) from None
    try:
        if not target.exists():
            _convert(gguf(scratch / "model.gguf"), scratch / "model")
            os.rename(scratch / "model", target)
    except OSError as error:
        if error.errno in FULL:
            raise _no_place(target, error) from None
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        # While it is held: a process that has just opened it sees that it is gone, and opens it anew.
        with suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()
    return target


def _no_place(target: Path, error: OSError) -> WidthPruneError:
    return WidthPruneError(
        f"{target.parent} cannot hold converted models ({error.strerror}): set WIDTHPRUNE_CACHE to a folder that can"
    )


def _convert(file: Path, target: Path) -> None:
    where = dict(pretrained_model_name_or_path=file.parent, gguf_file=file.name, trust_remote_code=False)
    read = _read_gguf(file, where)
    # The reader marks its model as quantized, which forbids saving it: hand the weights to a plain one.
    if hasattr(read.config, "quantization_config"):
        del read.config.quantization_config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(read.config, dtype=torch.bfloat16)
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    with saving(target):
        model.save_pretrained(target)
        AutoTokenizer.from_pretrained(**where).save_pretrained(target)


def _read_gguf(file: Path, where: Mapping):
    """The model in a GGUF file as bfloat16, every weight of it from the file."""
    config = AutoConfig.from_pretrained(**where)
    # Else transformers would build them all before it is found that they are too many.
    if (layers := config.get_text_config().num_hidden_layers) > (tensors := _number_of_tensors(file)):
        raise WidthPruneError(
            f"it says that it has {layers} layers, and holds {tensors} tensors: copy it again"
        )
    # Without this, transformers 5.2x keeps some 4-bit types packed; before, it always unpacked.
    unpack = {"quantization_config": transformers.GgufConfig(dequantize=True)} if _PACKS_GGUF else {}
    read, loading = AutoModelForCausalLM.from_pretrained(
        **where, **unpack, config=config, dtype=torch.bfloat16, output_loading_info=True
    )
    check_whole(loading, "its header asks for")
    return read


def _number_of_tensors(file: Path) -> int:
    with file.open("rb") as stream:
        return int.from_bytes(stream.read(16)[8:], "little")  # behind four letters and the format's version


def check_whole(loading: Mapping, asks: str) -> None:
    """Refuse a model some of whose weights were not there: transformers warns, and draws them by lot."""
    if missing := sorted(loading["missing_keys"]):
        raise WidthPruneError(f"the weights lack {missing[0]}, which {asks}: copy the whole model again")
