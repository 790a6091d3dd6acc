"""The ledger written down: as a table, as files for other programs, and as HTML for the front page."""

import html
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from ..report.results import write_atomically
from ..report.verdicts import OUTCOMES
from .claims import printed
from .ledger import Judged


def to_table(ledger: Iterable[Judged]) -> pd.DataFrame:
    """The ledger as a table, one row a claim: what a reader or another program needs of it."""
    rows = []
    for one in ledger:
        fields = {name: value for name, value in asdict(one.claim).items()}
        verdict = {"outcome": one.outcome, "found": one.found, "published_holds": one.published}
        verdict |= {"measured_holds": one.measured, "because": one.because, "protocol": one.protocol}
        # The rule named found makes the text of that name.
        rows.append(fields | verdict | {"settle": one.settle})
    return pd.DataFrame(rows)


def save_ledger(ledger: Iterable[Judged], directory: str | Path) -> list[Path]:
    """Write the machine-readable copies ``claims.json`` and ``claims.csv``."""
    table = to_table(ledger)
    records = json.loads(table.to_json(orient="records"))
    paths = [Path(directory) / f"claims.{kind}" for kind in ("json", "csv")]
    write_atomically(paths[0], json.dumps(records, indent=1, ensure_ascii=False) + "\n")
    write_atomically(paths[1], table.to_csv(index=False))
    return paths


def to_html(ledger: Iterable[Judged], chapters: Mapping[str, str]) -> str:
    """The ledger as an HTML table, readable without script; ``chapters`` maps a chapter to its link."""
    head = "".join(f"<th>{name}</th>" for name in ("Claim", "Printed", "Recomputed", "Verdict", "Chapter"))
    body = []
    for one in ledger:
        claim, kind = one.claim, OUTCOMES.index(one.outcome)
        v3 = f" <em>{html.escape(claim.v3)}</em>" if claim.v3 else ""
        measured = f" (on other models: {one.measured})" if one.measured else ""
        why = "".join(
            f" <small>{html.escape(text)}</small>"
            for text in (one.because, one.protocol, one.settle and f"To settle it: {one.settle}")
            if text
        )
        cells = (
            f"<strong>{html.escape(claim.claim)}</strong> <small>{html.escape(claim.where)}.{v3}</small>",
            html.escape(printed(claim)),
            html.escape(one.found) + measured,
            f"<span class='verdict verdict-{kind}'>{one.outcome}</span>{why}",
            f"<a href='{chapters[claim.chapter]}'>{claim.chapter[:2]}</a>",
        )
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        body.append(
            f"<tr id='{claim.id}' data-outcome='{one.outcome}' data-group='{html.escape(claim.group)}'>{row}</tr>"
        )
    return (
        f"<table class='ledger'><thead><tr>{head}</tr></thead><tbody>\n"
        + "\n".join(body)
        + "\n</tbody></table>"
    )
