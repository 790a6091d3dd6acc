"""Effects and answers: what a rule says of differences that have errors.

An `Effect` is how far a score moved. An answer is "yes", "no" or "cannot tell": a difference that is not
significant is neither a rise nor a fall, and says nothing against either. Several tests of one claim are corrected
by Holm over that claim's own family, which is the effects that are given to one function below.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.stats import binomtest, norm

YES, NO, UNSURE = "yes", "no", "cannot tell"
MARGIN = 0.25  # of the unpruned score: a fall that would matter, in the sense of `Rule.keeps`
POWER = 0.8  # chance of finding an effect as large as the one seen


@dataclass(frozen=True)
class Effect:
    """How far a score moved, in units in which higher is better (of a perplexity, of its logarithm).

    ``before`` is the score it moved from, ``n`` the number of items, ``label`` says what was compared.
    """

    change: float
    stderr: float
    before: float = math.nan
    n: float = math.nan
    label: str = ""

    @property
    def z(self) -> float:
        return self.change / self.stderr if self.stderr > 0 else 0.0 if self.change == 0 else math.nan


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values. As statsmodels has them, which collects garbage at every call, a tenth of a second."""
    p = np.asarray(p, float)
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


@dataclass(frozen=True)
class Undecided:
    """An effect that decided nothing, with its distance from the line in standard errors."""

    effect: Effect
    z: float
    critical: float

    def items(self) -> float:
        """Items at which an effect as large would be significant with a chance of `POWER`."""
        if not self.z:
            return math.inf
        return self.effect.n * ((self.critical + norm.ppf(POWER)) / abs(self.z)) ** 2


@dataclass
class Rule:
    """How much evidence decides: the threshold in standard errors, and whether Holm's correction is made.

    What it could not decide is kept in ``open``, to compute what would settle it.
    """

    sigmas: float = 2.0
    holm: bool = True
    open: list[Undecided] = field(default_factory=list)

    @property
    def alpha(self) -> float:
        """The two-sided p of ``sigmas`` standard errors: 0.0455 for two."""
        return float(2 * norm.sf(self.sigmas))

    def signs(self, effects: Sequence[Effect]) -> list[int]:
        """1 for a significant rise, -1 for a significant fall, else 0, with Holm over all of them."""
        p = [1.0 if math.isnan(e.z) else 2 * norm.sf(abs(e.z)) for e in effects]
        if self.holm and p:
            p = holm(p)
        return [0 if q > self.alpha else 1 if e.z > 0 else -1 for e, q in zip(effects, p, strict=True)]

    def rises(self, *effects: Effect) -> str:
        """Yes, if every effect is a significant rise; no, if one is a significant fall."""
        signs = self.signs(effects)
        answer = NO if -1 in signs else YES if signs and all(signs) else UNSURE
        self._keep_open(answer, [e for e, sign in zip(effects, signs, strict=True) if not sign], len(effects))
        return answer

    def falls(self, *effects: Effect) -> str:
        """`rises`, of the opposite."""
        return self.rises(*(replace(e, change=-e.change) for e in effects))

    def keeps(self, *effects: Effect) -> str:
        """Yes, if every effect is better than losing a quarter of the score; no, if one is a significant fall."""
        spared = [replace(e, change=e.change + MARGIN * abs(e.before)) for e in effects]
        if -1 in self.signs(effects):
            return NO
        # Each must be excluded, so no correction: it is the intersection of the tests that is asked.
        left = [e for e in spared if not e.z > self.sigmas]
        self._keep_open(UNSURE if left else YES, left, 1)
        return UNSURE if left or not effects else YES

    def some_rise(self, *effects: Effect) -> str:
        """Yes, if an effect is a significant rise; no, if each is worse than gaining a quarter of the score."""
        if 1 in self.signs(effects):
            return YES
        short = [replace(e, change=e.change - MARGIN * abs(e.before)) for e in effects]
        left = [e for e in short if not e.z < -self.sigmas]
        self._keep_open(UNSURE if left else NO, left, 1)
        return UNSURE if left or not effects else NO

    def not_worse(self, *effects: Effect) -> str:
        """No, if one is a significant fall; else yes. For controls, which need not be better than the criterion."""
        return NO if -1 in self.signs(effects) else YES

    def _keep_open(self, answer: str, effects: Sequence[Effect], family: int) -> None:
        if answer == UNSURE:
            critical = norm.isf(self.alpha / 2 / (max(family, 1) if self.holm else 1))
            self.open += [Undecided(e, e.z, float(critical)) for e in effects if not math.isnan(e.z)]


def answer_of(x) -> str:
    """An answer of what an expression gave: answers stay, and true is yes."""
    return x if isinstance(x, str) and x in (YES, NO, UNSURE) else YES if x else NO


def both(*answers) -> str:
    """Yes, if all are; no, if one is; else it cannot be told."""
    answers = [answer_of(x) for x in answers]
    return NO if NO in answers else UNSURE if UNSURE in answers else YES


def inverse(answer) -> str:
    """The answer to the opposite question."""
    return {YES: NO, NO: YES, UNSURE: UNSURE}[answer_of(answer)]


def agree(answers: Sequence[str]) -> str:
    """One answer of several models: theirs, where those that can tell say the same; else it cannot be told."""
    told = set(answers) - {UNSURE}
    return told.pop() if len(told) == 1 else UNSURE


def models_needed(answers: Sequence[str], alpha: float) -> int:
    """Models in all that a two-sided sign test would need, if all further ones answered as the majority does."""
    yes, no = answers.count(YES), answers.count(NO)
    most, least = max(yes, no), min(yes, no)
    while binomtest(most, most + least).pvalue > alpha:
        most += 1
    return most + least


def to_settle(rule: Rule, answers: Sequence[str] = ()) -> str:
    """What would settle an inconclusive verdict, computed from what was undecided; empty if nothing was."""
    if {YES, NO} <= set(answers):
        return f"the models disagree: {models_needed(answers, rule.alpha)} models, if the rest agreed"
    if not rule.open:
        return ""
    hardest: Callable[[Undecided], float] = Undecided.items
    worst = max(rule.open, key=hardest)
    needed = worst.items()
    if math.isnan(needed):
        return ""
    size = "more than a million" if needed > 1e6 else f"{math.ceil(needed):,}"
    now = "" if math.isnan(worst.effect.n) else f" instead of {worst.effect.n:,.0f}"
    return f"{size} items{now} ({worst.effect.label})"
