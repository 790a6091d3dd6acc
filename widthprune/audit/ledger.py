"""The claim ledger: every claim of the paper with a rule, and the verdict that the rule gives.

Claims stand in ``claims.yaml``, which says what its fields mean. No verdict is written there: `judge`
evaluates a claim's expressions over `widthprune.audit.evidence.Evidence`, so a changed number changes the verdict.
Chapters ask a `Ledger` for theirs, so that no chapter can say what the front page does not.
"""

import ast
import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ..errors import WidthPruneError
from ..report.escaping import as_myst
from ..report.results import stored_results
from ..report.runs import public_name
from ..report.tasks import TASKS
from ..report.verdicts import OUTCOMES, Verdict
from ..studies.stored import StoredStudies
from .claims import Claim, counted, found_text, load_claims, printed
from .effects import AS_MUCH, MORE, NO, UNSURE, YES, agree, agree_controls, answer_of, control, to_settle
from .evidence import Evidence, NoEvidence
from .floors import load_floors
from .lookup import NotMeasured

REPRODUCED, LIKE_CONTROL, INCONCLUSIVE, NOT, NO_TRANSFER, UNTESTABLE = OUTCOMES
GROWN = "grown models"  # all together, as rules name them
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
    protocol: str = ""  # each measured model: its answer, what was measured and how; or why it has none
    damage: str = ""  # each of them: at which widths it is still better than word frequencies
    settle: str = ""  # beside an inconclusive verdict: how many items or models would settle it
    rivals: str = ""  # the controls that do as much or more, in few words


def decide(published: str, measured: str, alike: str, against: int = 2) -> str:
    """The outcome of three answers: of the published tables, of the models measured here, and of the control.

    An answer is "yes", "no", "cannot tell", or empty where there is none; of a control also "does as much" or "does
    more". The published tables come first: what they contradict is not reproduced, whatever other models do. A
    control counts only for a claim that stands. ``against`` is how many models answered "no": one alone, on few
    items, contradicts a claim and does not decide it.
    """
    if published == NO:
        return NOT
    if published == UNSURE:
        return INCONCLUSIVE
    if measured == NO:
        return NO_TRANSFER if against > 1 else INCONCLUSIVE
    if published == ABSENT and measured != YES:
        return INCONCLUSIVE if measured == UNSURE else UNTESTABLE
    return LIKE_CONTROL if alike in (AS_MUCH, MORE) else REPRODUCED


def judge(claim: Claim, evidence: Evidence) -> Judged:
    """The verdict on one claim, by `decide`, with the reasons in words."""
    evidence.rule.open.clear()
    x, reason = _evaluate(claim, claim.recompute, evidence)
    published, found = (ABSENT, "") if x is None else (_agrees(claim, x), found_text(claim, x))
    if claim.found and x is not None:
        found = str(_evaluate(claim, claim.found, evidence)[0])
    reasons = [_reason(claim, found, published)] if x is not None else [str(reason)] if reason else []
    if published == YES and claim.holds:
        holds, reason = _evaluate(claim, claim.holds, evidence)
        published = answer_of(holds) if holds is not None else published
        reasons.append(str(reason) if reason else _HOLDS[published])
    if claim.beside and x is not None:
        reasons.append(_evaluate(claim, claim.beside, evidence)[0] or "")
    if published != UNSURE:  # else it is the published tables that have to settle it
        evidence.rule.open.clear()
    answers, rows = _of_grown(claim, evidence) if claim.grown else _by_model(claim, evidence)
    measured = agree(list(answers.values())) if answers else ABSENT
    undecided = replace(evidence.rule, open=list(evidence.rule.open))
    controls = [_control(claim, *one, evidence, answers) for one in claim.controls if claim.alike]
    alike = next((word for word in (MORE, AS_MUCH) if word in [word for word, _ in controls]), ABSENT)
    # Of grown models one answer is of all seeds.
    against = evidence.grown_seeds() if GROWN in answers else list(answers.values()).count(NO)
    outcome = decide(published, measured, alike, against)
    if claim.measured or claim.grown:
        reasons.append(_measured_reason(measured, answers))
    reasons += [f"control, {text}" for _, text in controls]
    if outcome == UNTESTABLE:
        reasons = [claim.needs or "; ".join([*reasons, *rows])]
    settle = to_settle(undecided, list(answers.values())) if outcome == INCONCLUSIVE else ""
    if outcome == INCONCLUSIVE and published != UNSURE and measured == NO:
        settle = "a second model that says no, too"
    shown = measured or "not yet" if claim.measured or claim.grown else ""
    damage = "; ".join(f"{model}, {evidence.damage(model)}" for model in _asked(claim, evidence))
    reasons = "; ".join(filter(None, reasons))
    rivals = " and ".join(
        name.partition(",")[0]
        for (name, _), (word, _) in zip(claim.controls, controls, strict=False)
        if word in (AS_MUCH, MORE)
    )
    return Judged(claim, outcome, found, shown, reasons, published, "; ".join(rows), damage, settle, rivals)


_HOLDS = {
    YES: "and that holds against its error",
    NO: "but the opposite holds, by more than its error",
    UNSURE: "but within its error, so that it cannot be told",
}
_CONTROL = {
    MORE: "it does more",
    AS_MUCH: "it does as much",
    NO: "it does not",
    UNSURE: "cannot tell",
    ABSENT: "not measured yet",
}


def _reason(claim: Claim, found: str, published: str) -> str:
    if claim.printed is not None:
        return f"recomputed {found}, printed {printed(claim)}"
    return f"in the published tables: {published}" + (f", {found}" if claim.found else "")


def _measured_reason(measured: str, answers: dict[str, str]) -> str:
    if not answers:
        return "on the models measured here: no answer yet"
    each = ", ".join(f"{model} {answer}" for model, answer in answers.items())
    told = sum(answer != UNSURE for name, answer in answers.items() if name != GROWN)
    alone = " (one model)" if told == 1 else ""
    return f"on the models measured here: {measured}{alone}, {each}"


def _control(claim: Claim, name: str, rule: str, evidence: Evidence, answers: dict) -> tuple[str, str]:
    """What one control does, and how that is said: of the models measured, those that answered the claim itself."""
    if _asks_models(rule) or GROWN in answers:
        each = {model: _evaluate(claim, rule, evidence, model)[0] for model in answers}
    else:
        each = {"": _evaluate(claim, rule, evidence)[0]}
    each = {model: control(x) for model, x in each.items() if x is not None}
    word = agree_controls(list(each.values())) if each else ABSENT
    models = ", ".join(f"{model} {answer}" for model, answer in each.items() if model)
    return word, f"{name}: {_CONTROL[word]}" + (f" ({models})" if models else "")


def _by_model(claim: Claim, evidence: Evidence) -> tuple[dict[str, str], list[str]]:
    """Each measured model's answer to an expression about ``model``, and a line on each."""
    answers, rows, unmeasured = {}, [], []
    for model in _asked(claim, evidence):
        evidence.seen.clear()
        x, reason = _evaluate(claim, claim.measured, evidence, model)
        if isinstance(reason, NotMeasured):
            unmeasured.append(model)
            continue
        if x is None:
            rows.append(f"{model}: no answer, {reason}")
            continue
        answers[model] = answer_of(x)
        rows.append(", ".join(filter(None, [f"{model}: {answers[model]}", _protocol(evidence.seen)])))
    return answers, rows + ([f"too little is measured yet: {', '.join(unmeasured)}"] if unmeasured else [])


def _of_grown(claim: Claim, evidence: Evidence) -> tuple[dict[str, str], list[str]]:
    """The answer to an expression about all models grown here, and a line on it."""
    x, reason = _evaluate(claim, claim.grown, evidence)
    if x is None:
        return {}, [f"{GROWN}: no answer, {reason}"]
    return {GROWN: answer_of(x)}, [f"{GROWN}: {answer_of(x)}, {evidence.grown_seeds()} seeds of each kind"]


def _asked(claim: Claim, evidence: Evidence) -> list[str]:
    """The measured models that a claim is asked of."""
    return [model for model in evidence.models() if claim.only in model] if claim.measured else []


def _protocol(seen: list) -> str:
    """What was measured, and how: tasks, criteria and widths, items, prompts, and whether errors are paired."""
    groups = {}
    for _, task, what, n, template, paired in seen:
        groups.setdefault((TASKS[task].label, n, template, paired), []).append(what)
    return " and ".join(
        f"{task} ({', '.join(dict.fromkeys(whats))}; {n} items, {'in the chat template' if template else 'without template'}"
        f", {'paired' if paired else 'unpaired'})"
        for (task, n, template, paired), whats in groups.items()
    )


class Ledger:
    """All claims, judged on the results of a directory; without one, on the published tables alone."""

    def __init__(self, results_dir: str | Path = "results"):
        measured = stored_results(results_dir)
        self.evidence = Evidence(measured, load_floors(), grown=StoredStudies(results_dir))
        self.claims = {claim.id: claim for claim in load_claims()}
        self._judged = {}  # a chapter asks twice, where it opens and where it ends

    def judge(self, claim: str) -> Judged:
        """The verdict on one claim, by its id."""
        if claim not in self.claims:
            raise WidthPruneError(f"claim must be an id of claims.yaml, got {claim!r}")
        if claim not in self._judged:
            self._judged[claim] = judge(self.claims[claim], self.evidence)
        return self._judged[claim]

    def summary(self, chapter: str, *ids: str) -> str:
        """The verdicts on the claims named, and a count over the chapter: what it opens with, in Markdown."""
        rows = []
        for one in map(self.judge, ids):
            home = one.claim.chapter
            place = "" if home == chapter else f" (chapter {int(home[:2])})"
            rows.append(f"- {as_myst(one.claim.claim)} **{one.outcome.capitalize()}.**{place}")
        own = [name for name, claim in self.claims.items() if claim.chapter == chapter]
        outcomes = [self.judge(name).outcome for name in own]
        counts = [f"{outcomes.count(outcome)} × {outcome}" for outcome in OUTCOMES if outcome in outcomes]
        said = (
            f"{counted(outcomes, 'claim')} of this chapter: {'; '.join(counts)}. The reasons are at its end."
        )
        return "\n".join(["**At a glance.**", "", *rows, "", said])

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
            one.damage,
        )

    def show(self, chapter: str, *ids: str) -> None:
        """Display a chapter's claims: a box for each named, a table of its others, and what the paper gets right."""
        from IPython.display import Markdown, display

        from .ledger_tables import to_style

        for name in ids:
            display(self.verdict(name))
        others = [name for name, one in self.claims.items() if one.chapter == chapter and name not in ids]
        if others:
            display(to_style(map(self.judge, others)))
        if right := self.gets_right(chapter):
            display(Markdown(right))

    def damage(self, *models: str) -> str:
        """Of each model measured here, at which widths it still works: a paragraph in Markdown."""
        known = self.evidence.models()
        names = [model for model in dict.fromkeys(map(public_name, models)) if model in known]
        said = [f"{as_myst(model)} is {self.evidence.damage(model)}" for model in names]
        if not said:
            return ""
        return f"**Damage.** Pruned by PPM, {'; '.join(said)}. Verdicts rest on the widths at which a model is better."

    def gets_right(self, chapter: str) -> str:
        """What the paper gets right, of the claims of a chapter: a paragraph in Markdown; "" where its tables answer none."""
        from .ledger_tables import gets_right

        return gets_right(self.judge(name) for name, claim in self.claims.items() if claim.chapter == chapter)


def judge_all(results_dir: str | Path = "results") -> list[Judged]:
    """Verdicts on every claim, from the published tables, the floors, and a results directory."""
    ledger = Ledger(results_dir)
    return [ledger.judge(name) for name in ledger.claims]


@cache
def _compiled(expression: str, name: str):
    return compile(expression.strip(), name, "eval")


@cache
def _asks_models(expression: str) -> bool:
    """Whether an expression asks about a measured model, which it calls ``model``."""
    return any(
        isinstance(node, ast.Name) and node.id == "model" for node in ast.walk(ast.parse(expression.strip()))
    )


def _evaluate(claim: Claim, expression: str | None, evidence: Evidence, model: str | None = None):
    """(value, None) of one of a claim's expressions, or (None, the `NoEvidence` that says why there is none)."""
    if not expression:
        return None, None
    field = next((name for name, text in vars(claim).items() if text == expression), "alike")
    names = {"__builtins__": {}} | evidence.names() | {"model": model}
    try:
        return eval(_compiled(expression, f"{claim.id}.{field}"), names), None
    except NoEvidence as error:
        return None, error
    except (NameError, SyntaxError, TypeError, KeyError, AttributeError) as error:
        raise WidthPruneError(f"claims.yaml: {claim.id}: {field} cannot be evaluated: {error}") from None


def _agrees(claim: Claim, x) -> str:
    if claim.printed is None:
        return answer_of(x)
    # What is not a number, as a correlation of what does not move, agrees with nothing and contradicts nothing.
    return UNSURE if math.isnan(x) else answer_of(abs(x - claim.printed) <= claim.tolerance)
