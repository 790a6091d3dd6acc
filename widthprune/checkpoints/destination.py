"""Write a directory as a transaction: by one process at a time, whole or not at all.

Beside the destination lie, while it is written, a lock and a scratch folder of a name of its own. The
system frees the lock when its process ends, however it ends: scratch folders of a lock that is free
belong to nobody, and the next run removes them.
"""

import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..commands.interrupts import uninterrupted
from ..errors import WidthPruneError
from ..models.saving import FULL, saving

LOCK = re.compile(r"\.widthprune-([0-9a-f]{16})\.lock")
CONTENT = "model"  # the one entry of a scratch folder
PATIENCE_S = 2  # another process may hold the lock for a moment, to remove what a dead one left


def check_destination(dst: Path, source: Path) -> None:
    """Refuse, before any work, a destination that cannot be written; nothing is written to find out.

    Raises
    ------
    WidthPruneError
        If ``dst`` exists, lies inside ``source``, or has no folder above it that may be written to.
    """
    _check_absent(dst)
    if source.resolve() in dst.resolve().parents:
        raise WidthPruneError(f"destination {dst} lies inside the source {source}: name one elsewhere")
    try:
        # Permissions do not tell all: the file system may be read-only, or none at all.
        with tempfile.TemporaryFile(dir=existing_parent(dst)):
            pass
    except OSError as error:
        raise _unwritable(dst, error) from None


def existing_parent(dst: Path) -> Path:
    """The nearest folder above ``dst`` that exists."""
    return next(parent for parent in dst.resolve().parents if parent.exists())


def sweep(dst: Path) -> None:
    """Remove what processes that died left beside ``dst``, so that it does not count as used space."""
    with suppress(OSError):
        for file in sorted(dst.absolute().parent.iterdir()):
            if found := LOCK.fullmatch(file.name):
                with suppress(OSError), _locked(file.parent, found[1], patience_s=0):
                    pass


@contextmanager
def moved_into_place(dst: Path) -> Iterator[Path]:
    """Give a directory beside ``dst`` to write into, and rename it to ``dst`` if the block ends well.

    Raises
    ------
    WidthPruneError
        If another process writes ``dst``, if it exists by now, or if the disk fails or fills up; and if
        another file that the block reads fails, which is then the one that is named.
    """
    folder = dst.absolute().parent
    key = hashlib.sha256(os.fsencode(dst.name)).hexdigest()[:16]  # any name fits, however long
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder, key, PATIENCE_S):
            _check_absent(dst)
            content = folder / f".widthprune-{key}-{uuid.uuid4().hex}" / CONTENT
            content.mkdir(parents=True)
            with saving(dst):
                yield content
            # Else an empty directory that somebody made meanwhile would be replaced.
            _check_absent(dst)
            os.rename(content, dst)
    except Timeout:
        raise WidthPruneError(
            f"destination {dst} is being written by another process: wait for it, or name another directory"
        ) from None
    except OSError as error:
        if read := _read_elsewhere(dst, error):
            raise WidthPruneError(
                f"{read} cannot be read ({error.strerror}): nothing is left of {dst}"
            ) from error
        raise _unwritable(dst, error) from error
    finally:
        with uninterrupted():
            for parent in made:
                with suppress(OSError):  # of what is not empty, or was never made
                    parent.rmdir()


@contextmanager
def _locked(folder: Path, key: str, patience_s: float) -> Iterator[None]:
    """Hold a destination's lock. Before and after the block, its scratch folders are nobody's and go."""
    lock = FileLock(folder / f".widthprune-{key}.lock", timeout=patience_s, poll_interval=0.05)
    try:
        lock.acquire()
        _remove_scratch(folder, key)
        yield
    finally:
        with uninterrupted():
            if lock.is_locked:
                _remove_scratch(folder, key)
                # While it is held: a process that has just opened it sees that it is gone, and opens it anew.
                with suppress(OSError):
                    os.unlink(lock.lock_file)
                lock.release()


def _remove_scratch(folder: Path, key: str) -> None:
    scratch = re.compile(rf"\.widthprune-{key}-[0-9a-f]{{32}}")
    for path in [path for path in folder.iterdir() if scratch.fullmatch(path.name)]:
        shutil.rmtree(path / CONTENT, ignore_errors=True)
        with suppress(OSError):  # somebody put something else there: it stays
            path.rmdir()


def _check_absent(dst: Path) -> None:
    try:
        dst.lstat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise _unwritable(dst, error) from None
    raise WidthPruneError(f"destination {dst} exists already: name a new directory")


def _read_elsewhere(dst: Path, error: OSError) -> Path | None:
    """The file that an error is about, if it is no part of what is written; None where that cannot be told."""
    # A copy that fails names both of its files, and the source first, though only the destination can be full.
    if error.filename is None or error.errno in FULL:
        return None
    named, dst = Path(os.fsdecode(error.filename)).absolute(), dst.absolute()
    own = named in (dst, *dst.parents) or any(part.startswith(".widthprune-") for part in named.parts)
    return None if own else named


def _unwritable(dst: Path, error: Exception) -> WidthPruneError:
    reason, full = getattr(error, "strerror", None) or error, getattr(error, "errno", None) in FULL
    mend = "make room, or name" if full else "name"
    return WidthPruneError(f"{dst} cannot be written ({reason}): {mend} another place; nothing is left of it")
