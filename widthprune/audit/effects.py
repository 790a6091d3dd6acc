"""Effects and answers: what a rule says of differences that have errors.

An `Effect` is how far a score moved. An answer is "yes", "no" or "cannot tell": a difference that is not
significant is neither a rise nor a fall, and says nothing against either. Several tests of one claim are corrected
by Holm over that claim's own family, which is the effects that are given to one function below.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest

from ..report.stats import difference

YES, NO, UNSURE = "yes", "no", "cannot tell"
AS_MUCH, MORE = "does as much", "does more"  # answers about a control, beside "no" and "cannot tell"
POWER = 0.8  # chance of finding an effect as large as the one seen


@dataclass(frozen=True)
class Effect:
    """How far a score moved, in units in which higher is better (of a perplexity, of its logarithm).

    ``before`` is the score it moved from, ``n`` the number of items, ``label`` says what was compared, and ``p`` is the
    two-sided p of an exact test, where there was one; else it follows from the standard error. Of a correlation,
    ``change`` is r and ``unit``, what ``n`` counts, is "points". ``family`` is how many tests its error allows for.
    """

    change: float
    stderr: float
    before: float = math.nan
    n: float = math.nan
    label: str = ""
    p: float = math.nan
    unit: str = "items"
    family: int = 1

    @property
    def z(self) -> float:
        return self.change / self.stderr if self.stderr > 0 else 0.0 if self.change == 0 else math.nan


def two_sided(z: float) -> float:
    """The two-sided p of so many standard errors. As scipy.stats.norm has it, whose checks take a hundred times as long."""
    return float(2 * ndtr(-abs(z)))


def threshold(p: float) -> float:
    """How many standard errors have a two-sided p."""
    return float(-ndtri(p / 2))


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values. As statsmodels has them, which collects garbage at every call, a tenth of a second."""
    p = np.asarray(p, float)
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


@dataclass(frozen=True)
class Undecided:
    """An effect that decided nothing, with its distance in standard errors from the line that it has to pass."""

    effect: Effect
    z: float
    critical: float

    def items(self) -> float:
        """Items at which an effect as large would be significant with a chance of `POWER`.

        Of a correlation, points: by Fisher's z, whose standard error is 1 / sqrt(n - 3).
        """
        needed = self.critical + ndtri(POWER)
        if self.effect.unit == "points":
            z = abs(math.atanh(min(abs(self.effect.change), 1 - 1e-12)))
            return 3 + (needed / z) ** 2 if z else math.inf
        return self.effect.n * (needed / abs(self.z)) ** 2 if self.z else math.inf


@dataclass(frozen=True)
class Open:
    """An undecided question: effects that would have to pass together for one answer, and those of which one is enough.

    ``each`` pass upwards, ``either`` downwards, as ``z`` is counted: one that lies on the other side never passes.
    """

    each: list[Undecided]
    either: list[Undecided]

    def together(self) -> Undecided | None:
        """The one of ``each`` that takes most, if all could pass."""
        return max(self.each, key=Undecided.items) if self.each and all(u.z > 0 for u in self.each) else None

    def alone(self) -> Undecided | None:
        """The one of ``either`` that takes least."""
        return min((u for u in self.either if u.z < 0), key=Undecided.items, default=None)


@dataclass
class Rule:
    """How much evidence decides: the threshold in standard errors, whether Holm's correction is made, and the margin.

    ``margin`` is the share of the unpruned score that would matter if it were lost or gained: nothing stays level that
    may have lost so much. Where it is not excluded, a question stays open. What could not be decided is kept
    in ``open``, to compute what would settle it.
    """

    sigmas: float = 2.0
    holm: bool = True
    margin: float = 0.25
    open: list[Open] = field(default_factory=list)

    @property
    def alpha(self) -> float:
        """The two-sided p of ``sigmas`` standard errors: 0.0455 for two."""
        return two_sided(self.sigmas)

    def signs(self, effects: Sequence[Effect]) -> list[int]:
        """1 for a significant rise, -1 for a significant fall, else 0, with Holm over all of them."""
        p = [e.p if e.p >= 0 else 1.0 if math.isnan(e.z) else two_sided(e.z) for e in effects]
        if self.holm and p:
            p = holm(p)
        return [0 if q > self.alpha else 1 if e.change > 0 else -1 for e, q in zip(effects, p, strict=True)]

    def rises(self, *effects: Effect) -> str:
        """Yes, if every effect is a significant rise; no, if one is a significant fall."""
        signs = self.signs(effects)
        answer = NO if -1 in signs else YES if signs and all(signs) else UNSURE
        left = [e for e, sign in zip(effects, signs, strict=True) if not sign]
        self._keep_open(answer, left, left, len(effects))
        return answer

    def falls(self, *effects: Effect) -> str:
        """`rises`, of the opposite."""
        return self.rises(*(replace(e, change=-e.change) for e in effects))

    def keeps(self, *effects: Effect) -> str:
        """Yes, if every effect is better than losing the margin; no, if one is a significant fall."""
        spared = [replace(e, change=e.change + self.margin * abs(e.before)) for e in effects]
        if -1 in self.signs(effects):
            return NO
        # Each must be excluded, so no correction: it is the intersection of the tests that is asked.
        left = [e for e in spared if not e.z > self.sigmas]
        self._keep_open(UNSURE if left else YES, left, effects, 1, len(effects))
        return UNSURE if left or not effects else YES

    def some_rise(self, *effects: Effect) -> str:
        """Yes, if an effect is a significant rise; no, if each is worse than gaining the margin."""
        if 1 in self.signs(effects):
            return YES
        short = [replace(e, change=e.change - self.margin * abs(e.before)) for e in effects]
        left = [e for e in short if not e.z < -self.sigmas]
        turned = [[replace(e, change=-e.change) for e in group] for group in (left, effects)]
        self._keep_open(UNSURE if left else NO, *turned, 1, len(effects))
        return UNSURE if left or not effects else NO

    def some_differ(self, *effects: Effect) -> str:
        """Yes, if an effect is significant, whichever way; no, if each is less than the margin both ways."""
        answers = {self.some_rise(*effects), self.some_rise(*(replace(e, change=-e.change) for e in effects))}
        return YES if YES in answers else UNSURE if UNSURE in answers else NO

    def not_worse(self, *effects: Effect) -> str:
        """No, if one is a significant fall; else yes. For what so few items can contradict, and not bear out."""
        return NO if -1 in self.signs(effects) else YES

    def compare(self, *effects: Effect) -> str:
        """What a control does, of effects that say how much better it is than what it is a control of.

        "no", if one is a significant fall; "does more", if one is a significant rise; "does as much", if none is
        either, and the margin is excluded both ways. Not to be significant is not enough for that.
        """
        signs = self.signs(effects)
        if any(signs):
            return NO if -1 in signs else MORE
        close = [
            abs(e.change) + self.sigmas * e.stderr < self.margin * abs(e.before) and abs(e.z) < self.sigmas
            for e in effects
        ]
        return AS_MUCH if close and all(close) else UNSURE

    def _keep_open(self, answer: str, each, either, family: int, either_family: int | None = None) -> None:
        if answer != UNSURE:
            return
        families = (family, either_family or family)
        self.open.append(Open(*(self._undecided(*x) for x in zip((each, either), families, strict=True))))

    def _undecided(self, effects: Sequence[Effect], family: int) -> list[Undecided]:
        def critical(e: Effect) -> float:
            return threshold(self.alpha / (max(family, e.family, 1) if self.holm else 1))

        return [Undecided(e, e.z, critical(e)) for e in effects if not math.isnan(e.z)]


def further(one: Effect, other: Effect | float) -> Effect:
    """How much further one effect goes than another, with both errors, or than a number."""
    if not isinstance(other, Effect):
        return replace(one, change=one.change - other, p=math.nan)
    found = difference((other.change, other.stderr), (one.change, one.stderr))
    label = f"{one.label}, against {other.label}"
    return Effect(*found, one.before, min(one.n, other.n), label)


def answer_of(x) -> str:
    """An answer of what an expression gave: answers stay, and true is yes."""
    return x if isinstance(x, str) and x in (YES, NO, UNSURE, AS_MUCH, MORE) else YES if x else NO


def control(shows, compared=AS_MUCH) -> str:
    """What a control does: whether it shows the effect at all comes first, then how it compares."""
    shows = answer_of(shows)
    return answer_of(compared) if shows == YES else shows


def agree_controls(answers: Sequence[str]) -> str:
    """One answer of several controls of one claim: those that can tell, if they say the same; the weaker of two."""
    return AS_MUCH if set(answers) - {UNSURE} == {AS_MUCH, MORE} else agree(answers)


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
    """What would settle an inconclusive verdict, were the effects as large as they seem; empty if nothing was undecided.

    The cheaper of two ways: as much as the hardest takes, where all that is left points the way of the claim, or as
    much as the easiest takes of what points the other way.
    """
    if {YES, NO} <= set(answers):
        return f"the models disagree: {models_needed(answers, rule.alpha)} models, if the rest agreed"
    together, alone = [one.together() for one in rule.open], [one.alone() for one in rule.open]
    ways = [u for u in alone if u]
    if together and all(together):  # several rules of one claim have to be borne out, each
        ways.append(max(together, key=Undecided.items))
    best = min(ways, key=Undecided.items, default=None)
    if best is None or math.isnan(best.items()):
        return ""
    effect, needed = best.effect, best.items()
    size = "more than a million" if needed > 1e6 else f"{math.ceil(needed):,}"
    now = "" if math.isnan(effect.n) else f" instead of {effect.n:,.0f}"
    return f"{size} {effect.unit}{now} ({effect.label})"
