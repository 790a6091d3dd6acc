"""Verdicts: shown in a notebook, read back from it, and never of an unknown outcome."""

import json

import pytest

from widthprune import WidthPruneError
from widthprune.report.verdicts import MIME, OUTCOMES, Verdict, collect


def some_verdict(outcome="inconclusive"):
    return Verdict("a", "It holds.", published="1", measured="2", outcome=outcome, because="a: yes")


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_notebook_shows_it_and_it_is_read_back(outcome):
    shown = some_verdict(outcome)._repr_mimebundle_()
    assert rf"**Verdict: {outcome}.** It holds\." in shown["text/markdown"]
    notebook = json.loads(json.dumps({"cells": [{"outputs": [{"data": shown}]}, {}]}))
    assert collect(notebook) == [some_verdict(outcome)] and MIME in shown


def test_an_unknown_outcome():
    with pytest.raises(WidthPruneError, match="outcome must be one of reproduced, .* got 'maybe'"):
        some_verdict("maybe")
