"""Pairs of a truth and a myth, or of a truth and a plain falsehood: read from disk, never part of this package.

Four sets lie under ``WIDTHPRUNE_DATA``: TruthfulQA (Lin et al. 2022) and BIG-bench's misconceptions hold what people
wrongly believe. Cities (Marks and Tegmark, arXiv 2310.06824) and CounterFact (Meng et al., arXiv 2202.05262) hold what
is merely false: they are the control, since what is said of myths has to differ from what is said of them. A fifth,
pocket, ships with the package, in our own words.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..errors import WidthPruneError
from ..report.tasks import data_dir

POCKET = Path(__file__).parents[1] / "pocket" / "data" / "misconceptions.jsonl"
# BIG-bench's pairs were matched by their words. These rows, counted from 0, were read and left out:
NO_PAIR = {
    *(27, 31, 32, 54, 78),  # the two sentences do not speak of one thing, or the true one is not true
    *(39, 44),  # false, and nobody believes it
    *(40, 41, 42, 43, 45, 46, 47, 48, 49),  # spellings
}


@dataclass(frozen=True)
class Pair:
    """A prompt and its two continuations; a statement has an empty prompt."""

    prompt: str
    truth: str
    myth: str


def _questions(path: Path) -> Iterator[Pair]:
    for row in _lines(path):
        targets = row.get("mc1_targets", row)  # TruthfulQA's own name, which the pocket suite does without
        # The first is the best answer; the first wrong one stands for the others.
        wrong = targets["choices"][targets["labels"].index(0)]
        yield Pair(f"Q: {row['question']}\nA:", f" {targets['choices'][0]}", f" {wrong}")


def _bigbench(path: Path) -> Iterator[Pair]:
    for place, row in enumerate(_lines(path)):
        if place not in NO_PAIR:
            yield Pair("", row["truth"].strip(), row["misconception"].strip())


def _statements(*same: str) -> Callable[[Path], Iterator[Pair]]:
    # A true sentence and the false one behind it are a pair, if both speak of one thing.
    def read(path: Path) -> Iterator[Pair]:
        with path.open(encoding="utf-8", newline="") as file:
            for one, other in pairwise(csv.DictReader(file)):
                if (one["label"], other["label"]) == ("1", "0") and all(one[k] == other[k] for k in same):
                    yield Pair("", one["statement"], other["statement"])

    return read


def _lines(path: Path) -> Iterator[dict]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


# Name -> whether its falsehoods are misconceptions, its file under WIDTHPRUNE_DATA, and its reader.
SETS = {
    "truthfulqa": (True, "truthfulqa/validation.jsonl", _questions),
    "bigbench": (True, "misconceptions/bigbench/pairs.jsonl", _bigbench),
    "pocket": (True, POCKET, _questions),
    "cities": (False, "misconceptions/geometry-of-truth/cities.csv", _statements("city")),
    "counterfact": (
        False,
        "misconceptions/geometry-of-truth/counterfact_true_false.csv",
        _statements("subject", "relation"),
    ),
}
MYTHS = tuple(name for name, (myths, *_) in SETS.items() if myths)
QUESTIONS = ("truthfulqa", "pocket")  # whose pairs answer a question; those of the others are sentences


def load_pairs(name: str, limit: int | None = None, seed: int = 0) -> list[Pair]:
    """The pairs of a set, or ``limit`` of them drawn by the seed.

    Raises
    ------
    WidthPruneError
        If there is no such set, its file is not there, or it is not what it should be.
    """
    if name not in SETS:
        raise WidthPruneError(f"set must be one of {', '.join(SETS)}, got {name!r}")
    _, place, read = SETS[name]
    root = data_dir()
    if not Path(place).is_absolute() and not root:
        raise WidthPruneError(f"the pairs of {name} lie in {place} under WIDTHPRUNE_DATA: set it")
    path = Path(root or "", place)
    try:
        found = list(read(path))
    except OSError as error:
        raise WidthPruneError(
            f"the pairs of {name} cannot be read ({error.strerror}): copy them to {place} under WIDTHPRUNE_DATA"
        ) from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise WidthPruneError(f"{path.name} does not hold the pairs of {name}: copy it again") from None
    if not found:
        raise WidthPruneError(f"{path.name} holds no pair of {name}: copy it again")
    drawn = sorted(np.random.default_rng(seed).permutation(len(found))[:limit].tolist())
    return [found[i] for i in drawn]
