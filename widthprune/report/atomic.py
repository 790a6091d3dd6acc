"""Files written whole or not at all."""

import glob
import hashlib
import os
import platform
import tempfile
from pathlib import Path

import psutil


def write_atomically(path: str | Path, text: str | bytes) -> None:
    """Write a file so that a reader, or a kill at any moment, sees the old file or the new one.

    What processes of this machine that were killed left of the same file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{glob.escape(f'.{path.name}.{_machine()}-')}*.partial"):
        pid = left.name.removesuffix(".partial").rpartition("-")[2].partition(".")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            left.unlink(missing_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=partial_prefix(path), suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk is told of the file's number, not of its name
        raise


def partial_prefix(path: Path) -> str:
    """How the name of a file begins while it is written; eight characters and ``.partial`` follow."""
    return f".{path.name}.{_machine()}-{os.getpid()}."


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
