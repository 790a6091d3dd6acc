"""What to do about a model that cannot be loaded, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError

from ..errors import COPY_AGAIN, WidthPruneError, first_line, pickle_remedy, remote_code_remedy
from .hub import cached_commits, damaged_reference, parted
from .packaged import PACKAGED

# What the machine or the environment lacks is no fault of the model's files.
ADVICE = {
    MemoryError: "free memory, or name a smaller model",
    torch.OutOfMemoryError: "free the device's memory, or name a smaller model or another device",
    ImportError: "install the package that it names",
    PermissionError: "let this user read it",
}


def _unfetched(error: Exception) -> str:
    """What to do where fetching fails, and not for want of the repository."""
    if not constants.ENDPOINT.startswith(("http://", "https://")):
        return (
            f"HF_ENDPOINT is {constants.ENDPOINT!r:.80}: set it to an address, https://..., or leave it out"
        )
    if isinstance(error, UnicodeEncodeError):  # in a header
        return "set HF_TOKEN to the token as the hub shows it, or leave it out"
    if isinstance(error, OSError) and error.filename:  # a connection's error names no file
        return (
            f"the hub's cache is to be {constants.HF_HUB_CACHE}: set HF_HOME to a folder that can be written"
        )
    return "check the network, and give the command again"


@contextmanager
def remedied(name: str, source: Path | None = None) -> Iterator[None]:
    """Inside, whatever breaks while a model is looked at or loaded ends in one line that begins with its name."""
    try:
        yield
    except WidthPruneError as error:
        raise WidthPruneError(str(error) if str(error).startswith(name) else f"{name}: {error}") from None
    except Exception as error:
        raise WidthPruneError(remedy(name, error, source)) from error


def remedy(name: str, error: Exception, source: Path | None = None) -> str:
    """One line for what went wrong while loading ``name``, with what to do about it."""
    causes = [error]
    while causes[-1].__cause__ or causes[-1].__context__:
        causes.append(causes[-1].__cause__ or causes[-1].__context__)
    text = " ".join(str(cause) for cause in causes)
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return (
            f"{name} is gated: accept its licence on its hub page, then run `hf auth login` or set HF_TOKEN"
        )
    if "trust_remote_code" in text:
        return remote_code_remedy(name)
    if any(isinstance(cause, SafetensorError) for cause in causes):
        return f"{name} has a damaged safetensors file ({first_line(error)}): download or copy it again"
    if any(isinstance(cause, RevisionNotFoundError) for cause in causes):
        return f"{name}: its repository has no such branch, tag or commit: check what follows the @"
    if source is None and (damage := damaged_reference(name)):
        return f"{name}: {damage}"
    if source is not None and not list(source.glob("*.safetensors")):
        if any(source.glob("*.bin")):
            return pickle_remedy(name)
        if not Path(name).is_dir() and (source / "config.json").exists():
            return f"{name}: the hub's cache, and the hub if it can be reached, hold no safetensors weights of it"
    if source is None and isinstance(error, LocalEntryNotFoundError) and (commits := cached_commits(name)):
        return (
            f"{name}: the hub cannot be reached, and its cache knows no such branch, tag or commit: "
            f"name what it holds, {' or '.join(f'{parted(name)[0]}@{commit}' for commit in commits)}"
        )
    of_the_system = isinstance(error, OSError) and error.errno is not None  # a full disk, no permission
    if source is None and isinstance(error, OSError | HFValidationError) and not of_the_system:
        return (
            f"{name} is no packaged model ({', '.join(PACKAGED)}), no local directory, and not found on the hub, "
            "or private, or the hub cannot be reached: check the spelling, the network and HF_TOKEN"
        )
    usual = COPY_AGAIN if source else _unfetched(error)
    advice = next((what for kind, what in ADVICE.items() if any(isinstance(c, kind) for c in causes)), usual)
    return f"{name} cannot be loaded ({first_line(error):.200}): {advice}"
