"""Scoring that gives the same answers the same scores every time. No torch."""

import contextlib
import random
from importlib.util import find_spec


@contextlib.contextmanager
def repeatable():
    """Inside, what IFEval's checks draw is drawn alike, and Python's generator is afterwards where it was.

    They make up what an instruction leaves open, and guess languages by langdetect, which draws anew at every
    text unless its factory has a seed.
    """
    state = random.getstate()
    random.seed(0)
    try:
        with _langdetect() if find_spec("langdetect") else contextlib.nullcontext():
            yield
    finally:
        random.setstate(state)


@contextlib.contextmanager
def _langdetect():
    from langdetect import DetectorFactory

    before, DetectorFactory.seed = DetectorFactory.seed, 0
    try:
        yield
    finally:
        DetectorFactory.seed = before
