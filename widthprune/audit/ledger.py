"""The claim ledger: every claim of the paper with a rule, and the verdict that the rule gives.

Claims stand in ``claims.yaml``, which says what its fields mean. No verdict is written there: `judge`
evaluates a claim's expressions over `widthprune.audit.evidence.Evidence`, so a changed number changes the verdict.
Chapters ask a `Ledger` for theirs, so that no chapter can say what the front page does not.
"""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from ..errors import WidthPruneError
from ..results import load_results, tidy
from ..tasks import TASKS
from ..verdicts import OUTCOMES, Verdict
from .claims import Claim, found_text, load_claims, printed
from .effects import NO, UNSURE, YES, agree, answer_of, to_settle
from .evidence import Evidence, NoEvidence
from .floors import load_floors

REPRODUCED, LIKE_CONTROL, INCONCLUSIVE, NOT, NO_TRANSFER, UNTESTABLE = OUTCOMES
ABSENT = ""  # the answer to a question that no table answers


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict and the numbers that decided."""

    claim: Claim
    outcome: str
    found: str  # the recomputed number or answer, as text
    measured: str  # "yes", "no", "cannot tell", "not yet", or empty where nothing measured bears on it
    because: str
    published: str  # the answer of the published tables: "yes", "no", "cannot tell", or empty
    protocol: str = ""  # each measured model: its answer, what was measured and how, and where it still works
    settle: str = ""  # beside an inconclusive verdict: how many items or models would settle it


def decide(published: str, measured: str, alike: str) -> str:
    """The outcome of three answers: of the published tables, of the models measured here, and of the control.

    An answer is "yes", "no", "cannot tell", or empty where there is none. The published tables come first: what
    they contradict is not reproduced, whatever other models do. A control counts only for a claim that stands.
    """
    if published == NO:
        return NOT
    if published == UNSURE:
        return INCONCLUSIVE
    if measured == NO:
        return NO_TRANSFER
    if published == ABSENT and measured != YES:
        return INCONCLUSIVE if measured == UNSURE else UNTESTABLE
    return LIKE_CONTROL if alike == YES else REPRODUCED


def judge(claim: Claim, evidence: Evidence) -> Judged:
    """The verdict on one claim, by `decide`, with the reasons in words."""
    evidence.rule.open.clear()
    x, reason = _evaluate(claim, "recompute", evidence)
    published, found = (ABSENT, "") if x is None else (_agrees(claim, x), found_text(claim, x))
    if claim.found and x is not None:
        found = str(_evaluate(claim, "found", evidence)[0])
    reasons = [_reason(claim, found, published)] if x is not None else [reason] if reason else []
    if published == YES and claim.holds:
        holds, reason = _evaluate(claim, "holds", evidence)
        published = answer_of(holds) if holds is not None else published
        reasons.append(reason or _HOLDS[published])
    answers, rows = _by_model(claim, "measured", evidence)
    measured = agree(list(answers.values())) if answers else ABSENT
    alike = ABSENT
    if claim.alike:
        alike, state = _alike(claim, evidence)
    outcome = decide(published, measured, alike)
    if outcome in (REPRODUCED, LIKE_CONTROL) and claim.alike:
        reasons.append(f"control, {claim.control}: {state}")
    if outcome == UNTESTABLE:
        reasons = [claim.needs or "; ".join([*reasons, *rows])]
    settle = to_settle(evidence.rule, list(answers.values())) if outcome == INCONCLUSIVE else ""
    shown = "" if not claim.measured else measured or "not yet"
    return Judged(claim, outcome, found, shown, "; ".join(reasons), published, "; ".join(rows), settle)


_HOLDS = {
    YES: "and that holds against its error",
    NO: "but the opposite holds, by more than its error",
    UNSURE: "but within its error, so that it cannot be told",
}
_ALIKE = {
    YES: "it shows the same, and the two cannot be told apart",
    NO: "told apart",
    UNSURE: "cannot tell",
    ABSENT: "not measured yet",
}


def _reason(claim: Claim, found: str, published: str) -> str:
    if claim.printed is not None:
        return f"recomputed {found}, printed {printed(claim)}"
    return f"in the published tables: {published}" + (f", {found}" if claim.found else "")


def _alike(claim: Claim, evidence: Evidence) -> tuple[str, str]:
    """Whether the control shows the same, and how that is said."""
    if _asks_models(claim.alike):
        answers, _ = _by_model(claim, "alike", evidence)
        alike = agree(list(answers.values())) if answers else ABSENT
        each = ", ".join(f"{model} {answer}" for model, answer in answers.items())
        return alike, _ALIKE[alike] + (f" (the same on {each})" if each else "")
    x, _ = _evaluate(claim, "alike", evidence)
    alike = ABSENT if x is None else answer_of(x)
    return alike, _ALIKE[alike]


def _by_model(claim: Claim, field: str, evidence: Evidence) -> tuple[dict[str, str], list[str]]:
    """Each measured model's answer to an expression about ``model``, and a line on each."""
    answers, rows = {}, []
    for model in evidence.models() if getattr(claim, field) else ():
        if claim.only and claim.only not in model:
            continue
        evidence.seen.clear()
        x, reason = _evaluate(claim, field, evidence, model)
        if x is None:
            rows.append(f"{model}: no answer, {reason}")
            continue
        answers[model] = answer_of(x)
        rows.append(f"{model}: {answers[model]}, {_protocol(evidence.seen)}; {_damage(model, evidence)}")
    return answers, rows


def _protocol(seen: list) -> str:
    """What was measured, and how: tasks, criteria and widths, items, prompts, and whether errors are paired."""
    groups = {}
    for _, task, what, n, template, paired in seen:
        groups.setdefault((TASKS[task].label, n, template, paired), []).append(what)
    return " and ".join(
        f"{task} ({', '.join(dict.fromkeys(whats))}; {n} items, {'in the chat template' if template else 'without template'}"
        f"{', paired' if paired else ''})"
        for (task, n, template, paired), whats in groups.items()
    )


def _damage(model: str, evidence: Evidence) -> str:
    """At which widths the model is still better than word frequencies under the paper's criterion."""
    works, broken = ([f"{pct:g}" for pct in f(model)] for f in (evidence.widths, evidence.broken))
    better = (
        f"better than word frequencies at {', '.join(works)}%"
        if works
        else "at no width better than word frequencies"
    )
    return better + (f", not at {', '.join(broken)}%" if broken and works else "")


class Ledger:
    """All claims, judged on the results of a directory; without one, on the published tables alone."""

    def __init__(self, results_dir: str | Path = "results"):
        there = Path(results_dir).is_dir()
        self.evidence = Evidence(load_results(results_dir) if there else tidy(pd.DataFrame()), load_floors())
        self.claims = {claim.id: claim for claim in load_claims()}

    def judge(self, claim: str) -> Judged:
        """The verdict on one claim, by its id."""
        if claim not in self.claims:
            raise WidthPruneError(f"claim must be an id of claims.yaml, got {claim!r}")
        return judge(self.claims[claim], self.evidence)

    def verdict(self, claim: str) -> Verdict:
        """The same as a notebook shows it."""
        one = self.judge(claim)
        text = [one.found] if one.found else []
        text += [f"on the models measured here: {one.measured}"] if one.measured else []
        because = [one.because, one.protocol, f"to settle it: {one.settle}" if one.settle else ""]
        return Verdict(
            claim,
            one.claim.claim,
            printed(one.claim) or one.claim.where,
            "; ".join(text) or "nothing",
            one.outcome,
            ". ".join(part for part in because if part),
        )

    def gets_right(self, chapter: str) -> str:
        """What the paper gets right, of the claims of a chapter: a paragraph in Markdown."""
        judged = [self.judge(name) for name, claim in self.claims.items() if claim.chapter == chapter]
        asked = [one for one in judged if one.published != ABSENT]
        right = [one for one in asked if one.published == YES]
        listed = "; ".join(
            one.claim.claim.rstrip(".")
            + (f" ({one.found})" if one.claim.printed is not None or one.claim.found else "")
            for one in right
        )
        return (
            f"**What the paper gets right.** Of {len(asked)} claims of this chapter that its own tables can answer, "
            f"they bear out {len(right)}" + (f": {listed}." if right else ".")
        )


def judge_all(results_dir: str | Path = "results") -> list[Judged]:
    """Verdicts on every claim, from the published tables, the floors, and a results directory."""
    evidence = Evidence(load_results(results_dir), load_floors())
    return [judge(claim, evidence) for claim in load_claims()]


@cache
def _compiled(expression: str, name: str):
    return compile(expression.strip(), name, "eval")


@cache
def _asks_models(expression: str) -> bool:
    """Whether an expression asks about a measured model, which it calls ``model``."""
    return any(
        isinstance(node, ast.Name) and node.id == "model" for node in ast.walk(ast.parse(expression.strip()))
    )


def _evaluate(claim: Claim, field: str, evidence: Evidence, model: str | None = None):
    """(value, "") of one of a claim's expressions, or (None, why there is none)."""
    expression = getattr(claim, field)
    if not expression:
        return None, ""
    names = {"__builtins__": {}} | evidence.names() | {"model": model}
    try:
        return eval(_compiled(expression, f"{claim.id}.{field}"), names), ""
    except NoEvidence as error:
        return None, str(error)
    except (NameError, SyntaxError, TypeError, KeyError, AttributeError) as error:
        raise WidthPruneError(f"claims.yaml: {claim.id}: {field} cannot be evaluated: {error}") from None


def _agrees(claim: Claim, x) -> str:
    return answer_of(x if claim.printed is None else abs(x - claim.printed) <= claim.tolerance)
