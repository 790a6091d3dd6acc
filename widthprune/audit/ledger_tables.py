"""The ledger written down: as a table, as files for other programs, and as HTML for the front page."""

import html
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from ..report.atomic import write_atomically
from ..report.escaping import code_in_html
from ..report.verdicts import OUTCOMES
from .claims import counted, printed
from .effects import NO, UNSURE, YES
from .ledger import ABSENT, INCONCLUSIVE, LIKE_CONTROL, NO_TRANSFER, REPRODUCED, UNTESTABLE, Judged


def to_table(ledger: Iterable[Judged]) -> pd.DataFrame:
    """The ledger as a table, one row a claim: what a reader or another program needs of it."""
    rows = []
    for one in ledger:
        verdict = {"outcome": one.outcome, "found": one.found, "published_holds": one.published}
        verdict |= {"measured_holds": one.measured, "because": one.because, "protocol": one.protocol}
        # The rule named found makes the text of that name.
        rows.append(asdict(one.claim) | verdict | {"damage": one.damage, "settle": one.settle})
    return pd.DataFrame(rows)


HEADINGS = {"id": "name", "outcome": "verdict", "because": "why", "settle": "to settle it"}


def to_style(ledger: Iterable[Judged]):
    """Claims with their verdicts as a notebook shows a table."""
    table = to_table(ledger)[["id", "claim", "found", "outcome", "because", "damage", "settle"]]
    # What no claim here has is no column.
    table = table.loc[:, table.ne("").any()].rename(columns=HEADINGS)
    return table.style.format(code_in_html).hide(axis="index")


def gets_right(judged: Iterable[Judged]) -> str:
    """What the paper gets right, of claims that its own tables can answer: a paragraph in Markdown; "" if they answer none."""
    asked = [one for one in judged if one.published != ABSENT]
    if not asked:
        return ""
    right, but = ([one for one in asked if one.outcome == kind] for kind in (REPRODUCED, LIKE_CONTROL))
    numbers = [one for one in asked if one.claim.printed is not None]
    exact = [one for one in numbers if one.found == printed(one.claim)]
    text = (
        f"**What the paper gets right.** Of {counted(asked, 'claim')} of this chapter that its own tables can answer, "
        f"{len(right)} {'is' if len(right) == 1 else 'are'} reproduced"
    )
    if but:
        text += f"; of {len(but)} more, which {'comes' if len(but) == 1 else 'come'} out, too, a control does as much or more"
    if numbers:
        text += f". Of {counted(numbers, 'number')} that it prints, {len(exact)} come out to the last digit"
    words = [one.claim.claim for one in right if one.claim.printed is None]
    return f"{text}.{' Also reproduced: ' if words else ''}{' '.join(words)}"


def save_ledger(ledger: Iterable[Judged], directory: str | Path) -> list[Path]:
    """Write the machine-readable copies ``claims.json`` and ``claims.csv``."""
    table = to_table(ledger)
    records = json.loads(table.to_json(orient="records"))
    paths = [Path(directory) / f"claims.{kind}" for kind in ("json", "csv")]
    write_atomically(paths[0], json.dumps(records, indent=1, ensure_ascii=False) + "\n")
    write_atomically(paths[1], table.to_csv(index=False))
    return paths


# What the paper is known for comes first, and what nobody doubts last.
FIRST = ("dichotomy", "ifeval-range", "r-3b", "energy-23", "latency-18", "instruct-ifeval")
LAST = "method"  # a group


def for_readers(ledger: Iterable[Judged]) -> list[Judged]:
    """The ledger in the order in which a newcomer reads it."""
    place = {name: i for i, name in enumerate(FIRST)}
    return sorted(ledger, key=lambda one: (one.claim.group == LAST, place.get(one.claim.id, len(FIRST))))


def in_words(one: Judged) -> str:
    """The verdict in a sentence for who knows neither this ledger's words nor statistics."""
    others = {
        YES: ", and on other models",
        NO: ", but not on another model that was asked",
        UNSURE: "; measurements on other models are too uncertain to tell",
        "not yet": "; other models have not been asked enough yet",
    }.get(one.measured, "")
    if one.outcome == UNTESTABLE:
        return (
            "No model that was asked works at a width that could answer this."
            if one.protocol
            else "Nobody has measured yet what it would take to answer this."
        )
    if one.published == NO:
        return "The paper's own tables say otherwise."
    if one.published == UNSURE:
        return "In the paper's own tables, the effect is too small for its error to tell."
    several = " and " in one.rivals
    but = f"; but {one.rivals} {'do' if several else 'does'} as much or more" * (one.outcome == LIKE_CONTROL)
    if one.published != YES:
        measured = {
            YES: f"the models measured here show it{but}",
            NO: "the models measured here show the opposite"
            if one.outcome == NO_TRANSFER
            else "a model measured here shows the opposite; one alone does not decide",
        }
        return f"The paper has no table of this; {measured.get(one.measured, 'the models measured here cannot tell')}."
    if one.outcome == NO_TRANSFER:
        return "The paper's own tables show it, and the other models measured here behave otherwise."
    if one.outcome == INCONCLUSIVE:
        return f"The paper's own tables show it{others}; so few cannot decide."
    return f"The paper's own tables show it{others}{but}."


def to_html(ledger: Iterable[Judged], chapters: Mapping[str, str]) -> str:
    """The ledger as an HTML table, readable without script; ``chapters`` maps a chapter to its link."""
    names = ("Claim", "Printed", "Recomputed", "Verdict", "Chapter")
    head = "".join(f"<th scope='col'>{name}</th>" for name in names)
    body = "\n".join(_row(one, chapters[one.claim.chapter]) for one in for_readers(ledger))
    return f"<table class='ledger'><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _row(one: Judged, chapter: str) -> str:
    claim, kind = one.claim, OUTCOMES.index(one.outcome)
    number = int(claim.chapter[:2])
    v3 = f" <em>{html.escape(claim.v3)}</em>" if claim.v3 else ""
    why = {
        "Why": one.because,
        "Measured": one.protocol,
        "Damage": one.damage,
        "To settle it": one.settle,
    }
    facts = "".join(f"<small>{name}: {code_in_html(text)}</small>" for name, text in why.items() if text)
    cells = (
        f"<strong>{html.escape(claim.claim)}</strong> <small>{html.escape(claim.where)}.{v3}</small>",
        html.escape(printed(claim)),
        html.escape(one.found),
        f"<span class='verdict verdict-{kind}'>{one.outcome}</span> <span>{html.escape(in_words(one))}</span>"
        f"<details><summary>Why</summary>{facts}</details>",
        f"<a href='{chapter}' aria-label='Chapter {number}'>{number}</a>",
    )
    row = "".join(f"<td>{cell}</td>" for cell in cells)
    return (
        f"<tr id='{claim.id}' data-outcome='{one.outcome}' data-group='{html.escape(claim.group)}'>{row}</tr>"
    )
