"""The claim ledger: every claim of the paper with a rule, and the verdict that the rule gives.

Claims stand in ``claims.yaml``, which says what its fields mean. No verdict is written there: `judge`
evaluates a claim's expressions over `widthprune.audit.evidence.Evidence`, so a changed number changes the verdict.
"""

import html
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import pandas as pd
import yaml

from ..errors import WidthPruneError
from ..results import load_results, write_atomically
from .evidence import Evidence, NoEvidence
from .floors import load_floors

OUTCOMES = (
    "reproduced",
    "reproduced, but explained by a control",
    "not reproduced",
    "not testable here",
)
FIELDS = {"id", "group", "claim", "where", "chapter", "recompute"}
OPTIONAL = {"printed", "tolerance", "unit", "measured", "control", "explained", "needs", "v3"}


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, in our words, and how it is judged."""

    id: str
    group: str
    claim: str
    where: str
    chapter: str
    recompute: str | None
    printed: float | None = None
    tolerance: float | None = None
    unit: str = ""
    measured: str | None = None
    control: str = ""
    explained: str | None = None
    needs: str = ""
    v3: str = ""


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict and the numbers that decided."""

    claim: Claim
    outcome: str
    found: str  # the recomputed number or answer, as text
    measured: str  # "yes", "no", "not yet", or empty where nothing measured bears on it
    because: str


def load_claims(text: str | None = None) -> list[Claim]:
    """The claims that ship with the package, or those of a YAML text, checked.

    Raises
    ------
    WidthPruneError
        If a claim lacks a field, has an unknown one, repeats an id, or states no way to be judged.
    """
    if text is None:
        text = resources.files(__package__).joinpath("claims.yaml").read_text(encoding="utf-8")
    claims = []
    for entry in yaml.safe_load(text):
        name = entry.get("id", "a claim without id")
        if missing := sorted(FIELDS - set(entry)):
            raise WidthPruneError(f"claims.yaml: {name} lacks {', '.join(missing)}")
        if unknown := sorted(set(entry) - FIELDS - OPTIONAL):
            raise WidthPruneError(f"claims.yaml: {name} has unknown fields {', '.join(unknown)}")
        if name in {claim.id for claim in claims}:
            raise WidthPruneError(f"claims.yaml: the id {name} is there twice")
        if "printed" in entry and "tolerance" not in entry:
            raise WidthPruneError(f"claims.yaml: {name} prints a number and states no tolerance")
        if entry["recompute"] is None and not entry.get("measured") and not entry.get("needs"):
            raise WidthPruneError(f"claims.yaml: {name} states no rule, and not what one would need")
        claims.append(Claim(**entry))
    return claims


def judge(claim: Claim, evidence: Evidence) -> Judged:
    """The verdict on one claim.

    Not testable here, if neither a published nor a measured number answers it; not reproduced, if one
    that does contradicts it; else reproduced, but explained by a control where that rule holds.
    """
    names = {"__builtins__": {}} | evidence.names()
    x, why_not = _evaluate(claim, "recompute", names)
    measured, unmeasured = _evaluate(claim, "measured", names)
    found, reasons, answers = "", [], []
    if x is not None:
        answers.append(_agrees(claim, x))
        found = _text(claim, x)
        said = "holds in the published tables: " if claim.printed is None else "recomputed "
        reasons.append(f"{said}{found}" + ("" if claim.printed is None else f", printed {_printed(claim)}"))
    elif claim.recompute:
        reasons.append(why_not)
    if measured is not None:
        answers.append(bool(measured))
        reasons.append(f"measured on another model: {'yes' if measured else 'no'}")
    elif claim.measured:
        reasons.append(unmeasured)
    if not answers:
        return Judged(claim, OUTCOMES[3], found, "", claim.needs or "; ".join(reasons))
    outcome = OUTCOMES[0] if all(answers) else OUTCOMES[2]
    if claim.explained and all(answers):
        explained, unknown = _evaluate(claim, "explained", names)
        if explained:
            outcome = OUTCOMES[1]
        state = (
            "not measured yet" if explained is None else "it explains this" if explained else "it does not"
        )
        reasons.append(f"control, {claim.control}: {state}")
    shown = "" if not claim.measured else "not yet" if measured is None else "yes" if measured else "no"
    return Judged(claim, outcome, found, shown, "; ".join(reasons))


def judge_all(results_dir: str | Path = "results") -> list[Judged]:
    """Verdicts on every claim, from the published tables, the floors, and a results directory."""
    evidence = Evidence(load_results(results_dir), load_floors())
    return [judge(claim, evidence) for claim in load_claims()]


def to_table(ledger: Iterable[Judged]) -> pd.DataFrame:
    """The ledger as a table, one row a claim: what a reader or another program needs of it."""
    rows = []
    for one in ledger:
        fields = {name: value for name, value in asdict(one.claim).items()}
        verdict = {"outcome": one.outcome, "found": one.found, "measured_holds": one.measured}
        rows.append(fields | verdict | {"because": one.because})
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
        measured = f" (measured elsewhere: {one.measured})" if one.measured else ""
        cells = (
            f"<strong>{html.escape(claim.claim)}</strong> <small>{html.escape(claim.where)}.{v3}</small>",
            html.escape(_printed(claim)),
            html.escape(one.found) + measured,
            f"<span class='verdict verdict-{kind}'>{one.outcome}</span> <small>{html.escape(one.because)}</small>",
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


def _evaluate(claim: Claim, field: str, names: dict):
    """(value, "") of one of a claim's expressions, or (None, why there is none)."""
    expression = getattr(claim, field)
    if not expression:
        return None, ""
    try:
        return eval(compile(expression.strip(), f"{claim.id}.{field}", "eval"), names), ""
    except NoEvidence as error:
        return None, str(error)
    except (NameError, SyntaxError, TypeError, KeyError, AttributeError) as error:
        raise WidthPruneError(f"claims.yaml: {claim.id}: {field} cannot be evaluated: {error}") from None


def _agrees(claim: Claim, x) -> bool:
    return bool(x) if claim.printed is None else abs(x - claim.printed) <= claim.tolerance


def _text(claim: Claim, x) -> str:
    if claim.printed is None:
        return "yes" if x else "no"
    return (
        f"{x:+.{_digits(claim)}f}{claim.unit}" if claim.unit == "%" else f"{x:.{_digits(claim)}f}{claim.unit}"
    )


def _printed(claim: Claim) -> str:
    if claim.printed is None:
        return ""
    sign = "+" if claim.unit == "%" else ""
    return f"{claim.printed:{sign}.{_digits(claim)}f}{claim.unit}"


def _digits(claim: Claim) -> int:
    """Digits after the point, from the tolerance of half a last digit."""
    return max(0, len(f"{claim.tolerance:.6f}".rstrip("0").partition(".")[2]) - 1)
