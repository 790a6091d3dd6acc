"""Looking one number up in a tidy table, and saying so where it is not there."""

from collections.abc import Callable
from functools import wraps

import pandas as pd

from ..errors import WidthPruneError

# The short names that rules have for the paper's models.
LLAMA = {"1B": "Llama-3.2-1B", "3B": "Llama-3.2-3B", "1B-Instruct": "Llama-3.2-1B-Instruct"}


class NoEvidence(WidthPruneError):
    """A rule asks for a number that no table holds."""


class NotMeasured(NoEvidence):
    """A rule asks a model for what was not measured on it yet."""


def where(rows: pd.DataFrame, **equal) -> pd.DataFrame:
    """The rows in which each column named has the value given."""
    for column, wanted in equal.items():
        rows = rows[rows[column] == wanted]
    return rows


def only(rows: pd.DataFrame, what: str, column: str = "value") -> float:
    """The one number of a column, which ``what`` describes in the message where there is none or several."""
    if len(rows) != 1 or pd.isna(rows[column].iloc[0]):
        raise NoEvidence(f"no single {column} for {what}")
    return float(rows[column].iloc[0])


def once(find: Callable) -> Callable:
    """Of a method that asks the tables alone, and not what `Evidence.vary` varies: what it gave is remembered.

    Copies with other rules share what was found. An exception is not remembered, and what is must not be changed.
    """

    @wraps(find)
    def found(self, *asked):
        if (key := (find, *asked)) not in self._found:
            self._found[key] = find(self, *asked)
        return self._found[key]

    return found
