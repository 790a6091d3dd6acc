"""One answer for all prompts: chosen on half of them, by hand where two kinds of instruction are all there is."""

import pytest

from widthprune.audit.fixed_answers import (
    BASE,
    PIECES,
    REPEATED,
    fitted_answer,
    halves,
    ifeval_items,
    repeated_answer,
    share_followed,
)


def items(*instructions, n=8):
    """Prompts that each ask for one kind of instruction, ``n`` times all of them."""
    docs = [
        dict(topic="Write.", instruction_id_list=[kind], kwargs=f"[{options}]")
        for kind, options in instructions
    ]
    return ifeval_items(docs * n)


TITLE, QUOTES = ("detectable_format:title", "{}"), ("startend:quotation", "{}")
UPPER, KEYWORD = ("change_case:english_capital", "{}"), ("keywords:existence", '{"keywords": ["lighthouse"]}')


def test_the_share_of_prompts_followed():
    both = items(TITLE, QUOTES)
    assert [share_followed(both, text) for text in ("<<a>> b", '"<<a>> b"', "b")] == [0.5, 1, 0]


def test_halves_are_disjoint_and_all():
    numbered = [dict(key=k) for k in range(9)]
    one, other = ([item["key"] for item in half] for half in halves(numbered))
    assert (
        len(one) == 4 and sorted(one + other) == list(range(9)) and halves(numbered)[0] == halves(numbered)[0]
    )


def test_repeated_answers_differ_in_case_and_length_only():
    assert repeated_answer(items(UPPER)) in [text for text in REPEATED if text.isupper()]
    assert {word for text in REPEATED for word in text.lower().split()} == set(
        ["word", "this", "is", "one", "more", "sentence."]
    )


def test_a_fitted_answer_has_the_pieces_that_help_and_no_others():
    assert fitted_answer(items(TITLE, QUOTES)) == f'"<<title>> {BASE}"'
    # No text obeys an instruction that names words of its own.
    assert fitted_answer(items(KEYWORD)) == BASE


@pytest.mark.parametrize("kind", PIECES)
def test_a_piece_keeps_a_text_and_changes_it(kind):
    changed = PIECES[kind](BASE)
    assert changed != BASE and len(changed) >= len(BASE)
