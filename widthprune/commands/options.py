"""Values of options: what each may be, said once for the command line and for the Python API. No torch.

A `Number` is argparse's ``type`` of an option, and checks the same argument of a function. Paths are looked
at as they are named: a command then refuses what it could not read or write before it has worked.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..criteria import find_criterion
from ..errors import WidthPruneError
from ..models.files import is_gguf, no_model_in
from ..models.packaged import PACKAGED


class Parser(argparse.ArgumentParser):
    """argparse's parser; what is wrong is one line that names the option, and not the usage of all."""

    def error(self, message):
        name, found, what = message.removeprefix("argument ").partition(": ")
        # "argument --limit: must be ..." reads better as "--limit must be ...".
        message = f"{name} {what}" if found and what.startswith("must ") else message
        raise WidthPruneError(f"{message}; `{self.prog} --help` lists what is known")


class Distinct(argparse.Action):
    """For an option of several values: each once, and the option once, since the last would silently win."""

    def __call__(self, parser, namespace, values, option_string=None):
        if getattr(namespace, self.dest, self.default) is not self.default:
            raise argparse.ArgumentError(self, "must be given once, with all its values behind it")
        if twice := [value for i, value in enumerate(values) if value in values[:i]]:
            raise argparse.ArgumentError(self, f"must name each value once, got {twice[0]} twice")
        setattr(namespace, self.dest, values)


@dataclass(frozen=True)
class Number:
    """A number, whole or not, within its range."""

    kind: type
    what: str  # completes "must be"
    within: Callable[[float], bool]

    def __call__(self, text: str):
        """The number that a text on the command line says."""
        try:
            value = self.kind(text)
        except ValueError:
            value = None
        if value is None or not self.within(value):
            raise argparse.ArgumentTypeError(f"must be {self.what}, got {text!r}")
        return value

    def check(self, name: str, value) -> None:
        """Refuse an argument of a function that is no such number."""
        kinds = int if self.kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not self.within(value):
            raise WidthPruneError(f"{name} must be {self.what}, got {value!r}")


# The results' tables hold counts as 64-bit integers, and numpy takes seeds of 32 bits.
COUNT = Number(int, "a whole number of at least 1", lambda n: 1 <= n < 2**63)
TOKENS = Number(int, "a whole number of at least 2", lambda n: 2 <= n < 2**63)
SEED = Number(int, "a whole number from 0 to 4294967295", lambda n: 0 <= n < 2**32)
PERCENTAGE = Number(float, "in [0, 100)", lambda pct: 0 <= pct < 100)
RATIO = Number(float, "a ratio above 0", lambda ratio: 0 < ratio < float("inf"))
SECONDS = Number(float, "a number of seconds above 0", lambda s: 0 < s < 1e6)
PRICE = Number(float, "a price of at least 0", lambda price: 0 <= price < float("inf"))


def check_list(name: str, values: Iterable, number: Number | None = None) -> list:
    """The values of an argument that takes several, each of them checked; texts where there is no ``number``.

    A lone text is refused, whose letters would else be taken for its values.
    """
    if isinstance(values, str | bytes | os.PathLike) or not isinstance(values, Iterable):
        raise WidthPruneError(
            f"{name} must be a list, got {values!r}: a parameter of papermill is one with -y '{name}: [...]', not with -p"
        )
    values = list(values)
    for value in values:
        if number is not None:
            number.check(name, value)
        elif not isinstance(value, str):
            raise WidthPruneError(f"{name} must be a list of names, got {value!r} in it")
    return values


def check_several(name: str, values: Iterable, number: Number | None = None) -> list:
    """`check_list` of an argument that needs at least one value, and each once."""
    values = check_list(name, values, number)
    if len(set(values)) < max(1, len(values)):
        raise WidthPruneError(f"{name} must name at least one value, and each once, got {values}")
    return values


def check_path(name: str, path: str | os.PathLike) -> None:
    """Refuse an argument that is no path."""
    if not isinstance(path, str | os.PathLike):
        raise WidthPruneError(f"{name} must be a path, got {path!r}")


def argument(check: Callable) -> Callable:
    """argparse's ``type`` from a function that gives the value of a text or refuses it with a `WidthPruneError`."""

    def read(text: str):
        try:
            return check(text)
        except WidthPruneError as error:
            # argparse would take it for a ValueError, whose words it leaves out.
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


@argument
def existing_file(text: str) -> Path:
    """A file that can be read."""
    path = _path(text)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise WidthPruneError(f"must be a file that can be read, got {text!r}")
    return path


@argument
def existing_folder(text: str) -> Path:
    """A folder that can be read."""
    path = _path(text)
    if not path.is_dir() or not os.access(path, os.R_OK | os.X_OK):
        raise WidthPruneError(f"must be a folder that can be read, got {text!r}")
    return path


@argument
def folder(text: str) -> Path:
    """A folder, there or to be made."""
    path = _path(text)
    if not nearest(path).is_dir():
        raise WidthPruneError(f"must be a folder, got {text!r}")
    return path


@argument
def folder_to_write(text: str) -> Path:
    """A folder, there or to be made, that can be written."""
    check_writable("must be a folder that can be written", _path(text))
    return Path(text)


@argument
def file_to_write(text: str) -> Path:
    """A file, there or to be made, that can be written."""
    path = _path(text)
    if path.exists() and not path.is_file():
        raise WidthPruneError(f"must be a file, got {text!r}")
    check_writable("must be a file that can be written", path.absolute().parent)
    return path


def check_writable(what: str, path: str | Path) -> None:
    """Refuse a folder, there or to be made, that cannot be written, with ``what`` before the reason."""
    try:
        # Asking for permissions is not enough: root has them even where nothing can be written.
        tempfile.TemporaryFile(dir=nearest(Path(path))).close()
        if Path(path).is_symlink():
            Path(path).stat()  # a link to nowhere: no folder can be made there
    except OSError as error:
        raise WidthPruneError(f"{what}: {path} ({error.strerror})") from None


def check_model_name(name: str) -> str:
    """The name of a model; what is certainly none is refused with what to name instead."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise WidthPruneError(
            f"model must be a packaged model's name, a local directory or a hub id, got {name!r}"
        )
    if name not in PACKAGED and (advice := _no_model(name)):
        raise WidthPruneError(f"model {name} {advice}")
    return name


model_name = argument(check_model_name)


@argument
def criterion(text: str) -> str:
    """The name of a criterion, in capitals."""
    return find_criterion(text).name


def _no_model(name: str) -> str:
    """Why a name is certainly no model, and what to name instead; empty if it may be one."""
    if "://" in name:
        return "is an address: name the hub id in it, OWNER/NAME, or a local directory"
    path = Path(name)
    try:
        if path.exists() and not path.is_dir():
            return "" if is_gguf(path) else f"is a file: name the directory that holds it, {path.parent}"
        if name.endswith("@") and not path.is_dir():
            return "names no branch, tag or commit behind its @: add one, or leave out the @"
        return no_model_in(path) if path.is_dir() else ""
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise WidthPruneError(f"must be a path, got {text!r}")
    try:
        # A name that is too long for the system is found out by looking.
        nearest(Path(text))
    except OSError as error:
        raise WidthPruneError(f"must be a path, got {text!r}: {error.strerror}") from None
    return Path(text)


def nearest(path: Path) -> Path:
    """The path, or the closest above it that is there; an OSError if a name below that is too long."""
    path = path.absolute()
    found = next(each for each in (path, *path.parents) if each.exists())
    for name in path.relative_to(found).parts:
        # Looked for there: in a folder that is not yet made, no name is too long.
        (found / name).exists()
    return found
