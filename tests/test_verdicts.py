"""Verdicts: graded by named checks, shown in a notebook."""

import pytest

from widthprune import WidthPruneError
from widthprune.verdicts import grade, verdict


def some_verdict(outcome="partly"):
    return verdict("It holds.", published="1", measured="2", outcome=outcome, because="a: yes")


@pytest.mark.parametrize(
    ("checks", "outcome"),
    [
        ({"a": True, "b": True}, "reproduced"),
        ({"a": True, "b": False}, "partly"),
        ({"a": False}, "not reproduced"),
        ({}, "not testable"),
    ],
)
def test_outcomes(checks, outcome):
    assert grade(checks)[0] == outcome


def test_the_reason_names_every_check():
    assert grade({"r is negative": True, "p is small": False})[1] == "r is negative: yes; p is small: no"


def test_a_notebook_shows_it_as_text():
    assert r"**Verdict: partly.** It holds\." in some_verdict()._repr_mimebundle_()["text/markdown"]


def test_an_unknown_outcome():
    with pytest.raises(WidthPruneError, match="outcome must be one of reproduced, .* got 'maybe'"):
        some_verdict("maybe")
