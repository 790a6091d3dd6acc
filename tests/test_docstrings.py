"""Docstrings of the core's public functions name every argument, and say what they refuse."""

import inspect
import re

import pytest

import widthprune
from widthprune import criteria, pruning, scores, widths
from widthprune.evaluation import grid
from widthprune.variants import compensation, global_widths

# A line says all of these; results have a page of their own.
SHORT = ("expansion_ratio", "load_results")
PUBLIC = [getattr(widthprune, name) for name in widthprune.__all__ if name not in SHORT]
FUNCTIONS = [
    *filter(inspect.isfunction, PUBLIC),
    *(pruning.prune_model, pruning.cut_model, pruning.target_sizes),
    *(scores.choose_neurons, scores.kept_indices, criteria.find_criterion),
    *(grid.grid, widths.config_changes, compensation.cut_with_bias, global_widths.global_sizes),
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f"{f.__module__}.{f.__name__}")
def test_every_argument_is_described(function):
    text = inspect.getdoc(function)
    described = re.split(r"\n\w+\n---+\n", text.partition("Parameters\n----------\n")[2])[0]
    # A line without indentation names one argument or several.
    lines = re.findall(r"^\w[\w, ]*", described, re.MULTILINE)
    assert set(inspect.signature(function).parameters) <= {
        name for line in lines for name in re.split(r"[, ]+", line)
    }
    assert "raise WidthPruneError" not in inspect.getsource(function) or "Raises\n------\n" in text
