"""One answer for every prompt of IFEval: what a text scores that was written without reading any of them.

Two such answers, each chosen on half of the prompts, drawn at random, so that the other half says what the choice
is worth where it was not made. `repeated_answer` knows nothing of the benchmark: a word or a sentence again and again, as a
broken model writes it; only letter case and length are chosen. `fitted_answer` knows which kinds of
instruction IFEval checks, and has a piece for each kind that one text can obey: it shows what knowing the test
is worth, and no model loses its way into it.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product

REPEATED = [
    case(" ".join([unit] * times))
    for unit, case, times in product(
        ("word", "this is one more sentence."), (str.lower, str.upper), (5, 50, 200)
    )
]
BASE = " ".join(["This is one more sentence."] * 3)
# In the order in which they are applied: what makes a text obey each kind of instruction.
PIECES: dict[str, Callable[[str], str]] = {
    "length_constraints:number_words": lambda text: " ".join([text] * 25),
    "detectable_format:number_highlighted_sections": lambda text: text.replace("one", "*one*"),
    "detectable_content:number_placeholders": lambda text: text.replace("sentence", "[sentence]"),
    "detectable_format:number_bullet_lists": lambda text: f"{text}\n* more\n* and more\n* still more",
    "length_constraints:number_paragraphs": lambda text: f"{text}\n***\n{BASE}\n***\n{BASE}",
    "detectable_format:multiple_sections": lambda text: (
        text + "".join(f"\nSECTION {k}\n{BASE}" for k in range(1, 6))
    ),
    "detectable_format:constrained_response": lambda text: f"{text} My answer is yes.",
    "detectable_content:postscript": lambda text: f"{text}\nP.S. more\nP.P.S. more",
    "detectable_format:title": lambda text: f"<<title>> {text}",
    "change_case:english_lowercase": str.lower,
    "change_case:english_capital": str.upper,
    "startend:quotation": lambda text: f'"{text}"',
}


def ifeval_items(docs: Iterable[Mapping]) -> list[dict]:
    """Items as lm-eval's IFEval reads them, of its own task or of the pocket suite's instructions."""
    from ..pocket.scoring import instructed_prompt

    keys = ("key", "prompt", "instruction_id_list", "kwargs")
    return [
        {key: doc[key] for key in keys}
        if "prompt" in doc
        else {
            "key": 0,
            "prompt": instructed_prompt(doc),
            "instruction_id_list": doc["instruction_id_list"],
            "kwargs": json.loads(doc["kwargs"]),
        }
        for doc in docs
    ]


def halves(items: Sequence[Mapping]) -> tuple[list, list]:
    """The prompts that answers are chosen on, and the others: a fixed draw, since neighbours may be alike."""
    drawn = set(random.Random(0).sample(range(len(items)), len(items) // 2))
    return [items[i] for i in sorted(drawn)], [item for i, item in enumerate(items) if i not in drawn]


def share_followed(items: Sequence[Mapping], text: str) -> float:
    """Share of prompts whose every instruction the text follows, by lm-eval's strict check."""
    from lm_eval.tasks.ifeval.utils import InputExample, test_instruction_following_strict

    followed = [test_instruction_following_strict(InputExample(**item), text) for item in items]
    return sum(one.follow_all_instructions for one in followed) / len(items)


def repeated_answer(items: Sequence[Mapping]) -> str:
    """The text of `REPEATED` that follows most of the first of `halves`; of equals the first."""
    half, _ = halves(items)
    return max(REPEATED, key=lambda text: share_followed(half, text))


def fitted_answer(items: Sequence[Mapping]) -> str:
    """`BASE` with the `PIECES` that raise its score on the first of `halves`, tried from the commonest kind on."""
    half, _ = halves(items)
    counts = Counter(kind for item in half for kind in item["instruction_id_list"] if kind in PIECES)
    kept: set[str] = set()
    best = share_followed(half, BASE)
    for kind, _ in counts.most_common():
        score = share_followed(half, _compose(kept | {kind}))
        if score > best:
            kept, best = kept | {kind}, score
    return _compose(kept)


def score_halves(items: Sequence[Mapping], text: str) -> dict[str, float]:
    """Strict scores on the half that an answer was chosen on, and on the other one."""
    named = zip(("chosen_half", "other_half"), halves(items), strict=True)
    return {f"prompt_level_strict_acc_{name}": share_followed(half, text) for name, half in named}


def _compose(kept: set[str]) -> str:
    text = BASE
    for kind, apply in PIECES.items():
        text = apply(text) if kind in kept else text
    return text
