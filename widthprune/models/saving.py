"""Saving a model: what the disk refuses is told as of any other file."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

# What a disk says that takes no more.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def saving(directory: Path) -> Iterator[None]:
    """Inside, what the disk refuses to ``save_pretrained`` is an `OSError` that names the directory, whichever library met it."""
    try:
        yield
    except SafetensorError as error:
        if not (found := re.search(r"\(os error (\d+)\)", str(error))):
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(directory)) from error
