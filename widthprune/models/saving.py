"""Saving a model: what the disk refuses is told as of any other file."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

# A copy that fails names both of its files, and the source first, though only the destination can be full.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def saving() -> Iterator[None]:
    """Inside, what the disk refuses to ``save_pretrained`` is an `OSError`, whichever library met it."""
    try:
        yield
    except SafetensorError as error:
        if not (found := re.search(r"\(os error (\d+)\)", str(error))):
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
