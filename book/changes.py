"""The page of changes: corrections with their dates, and every verdict that moved from one day to a later one.

``verdicts/DATE.json`` holds the verdict of every claim at the end of a day. To keep today's:

    python book/changes.py
"""

import json
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from widthprune.audit.claims import counted
from widthprune.audit.ledger import judge_all
from widthprune.report.atomic import write_atomically
from widthprune.report.escaping import as_myst

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "book" / "verdicts"
MARK = "A correction is a line here with its date"
PAGE = """# Changes

What this book said before, and says no longer: corrections of results, and verdicts that moved, the newest first.

## Corrections

{corrections}

## Verdicts

{verdicts}
"""


def changes_page(readme: str, now: Mapping[str, str], claims: Mapping[str, str]) -> str:
    """MyST Markdown of the page.

    Parameters
    ----------
    readme : str
        Of the results, whose last part holds the corrections.
    now : mapping of str to str
        Verdict of every claim, by id.
    claims : mapping of str to str
        What each of them says.
    """
    days = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(KEPT.glob("*.json"))}
    kept = [*days.items(), ("today", now)]
    parts = [moved(*one, *other, claims) for one, other in zip(kept, kept[1:], strict=False)]
    return PAGE.format(corrections=corrections(readme), verdicts="\n\n".join(reversed(parts)))


def corrections(readme: str) -> str:
    """The dated lines of the results' README, the newest first."""
    lines = readme.partition(MARK)[2].partition("\n\n")[2].strip()
    entries = re.split(r"\n(?=- )", lines)
    return "\n".join(sorted(entries, key=lambda entry: entry[:12], reverse=True))


def moved(day: str, then: Mapping, other: str, now: Mapping, claims: Mapping[str, str]) -> str:
    """A table of the verdicts that differ between two days, and how many claims came and went."""
    rows = [
        f"| {as_myst(claims.get(name, name))} | {then[name]} | {outcome} |"
        for name, outcome in now.items()
        if then.get(name, outcome) != outcome
    ]
    new, gone = (counted(one.keys() - other.keys(), "claim") for one, other in ((now, then), (then, now)))
    said = f"{counted(rows, 'verdict')} moved, {new} came and {gone} went."
    table = ["| Claim | Before | After |", "|---|---|---|", *rows] if rows else []
    return "\n".join([f"### From {day} to {other}", "", said, "", *table])


def main() -> None:
    ledger = judge_all(ROOT / "results")
    text = json.dumps({one.claim.id: one.outcome for one in ledger}, indent=0) + "\n"
    write_atomically(KEPT / f"{date.today().isoformat()}.json", text)


if __name__ == "__main__":
    main()
