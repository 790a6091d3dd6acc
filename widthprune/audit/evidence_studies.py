"""What rules may ask about chapters 12 and 13: where misconceptions sit, SliceGPT at equal size, criteria at equal damage."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..criteria import criterion_of
from ..report.tasks import TASKS
from ..studies.pairs import MYTHS, QUESTIONS, SETS
from .effects import Effect
from .evidence_measured import UNPAIRED
from .lookup import NoEvidence, NotMeasured, once

DAMAGE = "pocket_prose"  # the perplexity that says how damaged a model is
# Studies, by what tables call them.
SLICED = {"slicegpt": "SLICEGPT", "slicegpt_text": "SLICEGPT, by another text"}


class StudiesEvidence:
    """The part of `widthprune.audit.evidence.Evidence` that reads ``misconceptions`` and those of `SLICED` of ``self.grown_table``.

    Criteria are compared by ``self.measured_table``.
    """

    def myths_fall(self, model: str, name: str, pct: float) -> Effect:
        """By how much further the log-odds of a set's myths move without the neurons PPM removes than without random ones."""
        before = self._row(model, "odds_before", name)
        found = self._row(model, "against_random", name, "PPM", pct)
        label = f"odds of {name} under PPM against RANDOM at {pct:g}%"
        return Effect(
            found["value"], found["stderr"], before["value"], found["n"], f"{model}: {label}", unit="pairs"
        )

    def myths_held(self, model: str, pct: float) -> Effect:
        """By how much larger a share of the log-odds lies in the neurons PPM removes for myths than for plain falsehoods."""
        falsehoods = tuple(name for name in SETS if name not in MYTHS)
        return self._held(model, pct, tuple(MYTHS), falsehoods, "myths against plain falsehoods")

    def questions_held(self, model: str, pct: float) -> Effect:
        """The same for myths that answer a question against myths that are sentences, which differ in form, not in being myths."""
        sentences = tuple(name for name in MYTHS if name not in QUESTIONS)
        return self._held(
            model, pct, tuple(QUESTIONS), sentences, "myths as answers against myths as sentences"
        )

    @once
    def _held(
        self, model: str, pct: float, ones: tuple[str, ...], others: tuple[str, ...], what: str
    ) -> Effect:
        # Means over sets, with the errors of all of them.
        means = []
        for names in (ones, others):
            rows = pd.DataFrame([self._row(model, "share", name, "PPM", pct) for name in names])
            variance = (rows["stderr"] ** 2).sum() / len(rows) ** 2
            means.append((rows["value"].mean(), variance, rows["n"].sum()))
        (one, of_one, n), (other, of_other, m) = means
        label = f"{model}: share of {what} in the lowest {pct:g}%"
        return Effect(one - other, (of_one + of_other) ** 0.5, other, n + m, label, unit="pairs")

    def sliced(self, model: str, task: str) -> list[Effect]:
        """What SliceGPT does to a benchmark at each size, without embeddings, of width pruning at which its model still works."""
        effects = []
        for pct, (_, score) in self._sliced(model, task).items():
            before = self._score(self._same_items(model, task, [], [0], False), model, task, "none", 0)
            what = f"sliced to the size of {pct:g}%"
            effects.append(self._effect(model, task, before, score, what, False))
        return effects

    def sliced_apart(self, model: str, task: str) -> list[Effect]:
        """How much more of a benchmark SliceGPT leaves than PPM where it damaged prose as much, while both models work."""
        return list(self.apart_sliced(model, task).values())

    def apart_sliced(self, model: str, task: str, study: str = "slicegpt") -> dict[tuple[str, float], Effect]:
        """`sliced_apart` by the study's name in `SLICED` and the percentage whose size a model was sliced to."""
        ours, effects = [0, *self.widths(model)], {}
        both = [(name, self._same_items(model, name, ["PPM"], ours, False)) for name in (DAMAGE, task)]
        line = self._line(both, model, ours)
        for pct, scores in self._sliced(model, task, study).items():
            what = f"sliced to the size of {pct:g}%"
            label = f"{TASKS[task].label} of {model}, {what}, against PPM at equal damage"
            if effect := _beyond(line, _point(*scores), label):
                effects[SLICED[study], pct] = effect
                self.seen.append((model, task, what, int(effect.n), False, False))
        if not effects:
            raise NotMeasured(
                f"{model}: PPM was measured on as many items at no width at which it works and has damaged prose as much "
                "as slicing did"
            )
        return effects

    def _sliced(self, model: str, task: str, study: str = "slicegpt") -> dict[float, list[tuple]]:
        """Scores of the prose and of a benchmark, by the percentage whose size a model that still works was sliced to."""
        table = self.grown_table.get(study, pd.DataFrame())
        if not len(table) or model not in set(table["model"]):
            raise NotMeasured(f"{model} was not sliced")
        rows = table[(table["model"] == model) & (table["counted"] == "without embeddings")]
        found = {}
        for pct in sorted(set(rows["pruning_pct"])):
            scores = [self._sliced_score(rows, name, pct) for name in (DAMAGE, task)]
            if None not in scores and self._better_than_floor(DAMAGE, scores[0]):
                found[pct] = scores
        if not found:
            raise NoEvidence(f"{model}: no size at which its sliced model works")
        return found

    def criteria_apart(self, model: str, task: str) -> list[Effect]:
        """How much more of a benchmark each criterion leaves than PPM where it damaged prose as much, while the model works."""
        return list(self.apart(model, task).values())

    def apart(self, model: str, task: str) -> dict[tuple[str, float], Effect]:
        """`criteria_apart` by criterion and percentage.

        PPM's scores are interpolated between its widths, over the logarithm of the perplexity, and never beyond the last; what did
        no damage at all is compared with the unpruned model. Criteria that add a bias are left out: they repair what they remove.
        """
        names = set(self.measured_table.loc[self.measured_table["model"] == model, "criterion"])
        effects = {}
        for criterion in sorted(names - {"none", "PPM"}):
            record = criterion_of(criterion)
            if record and not record.adds_bias:
                effects |= self._apart(model, task, criterion)
        if not effects:
            raise NotMeasured(
                f"{model} was not measured on {TASKS[task].label} under PPM and another criterion that did as much "
                "damage while it works"
            )
        return effects

    def _apart(self, model: str, task: str, criterion: str) -> dict[tuple[str, float], Effect]:
        ours, theirs = [0, *self.widths(model)], self.widths(model, criterion)
        asked = (["PPM", criterion], [*ours, *theirs], False)
        both = [(name, self._same_items(model, name, *asked)) for name in (DAMAGE, task)]
        line, effects = self._line(both, model, ours), {}
        for pct in theirs:
            label = f"{TASKS[task].label} of {model}, {criterion} at {pct:g}% against PPM at equal damage"
            if effect := _beyond(line, self._at(both, model, criterion, pct), label):
                effects[criterion, pct] = effect
                self.seen.append((model, task, f"{criterion} at {pct:g}%", int(effect.n), False, False))
        return effects

    def _line(self, both, model: str, pcts: Sequence[float]) -> np.ndarray:
        """PPM's points that were measured, a row each, the unpruned model first; none without it."""
        first, *found = (self._at(both, model, "PPM" if pct else "none", pct) for pct in pcts)
        return np.array([first, *(point for point in found if point)]) if first else np.empty((0, 6))

    def _at(self, both, model: str, criterion: str, pct: float) -> tuple | None:
        """A criterion's `_point`; ``both`` are the prose and a benchmark, by name, with what is measured on the same items."""
        try:
            return _point(*(self._score(cells, model, name, criterion, pct) for name, cells in both))
        except NotMeasured:
            return None

    @staticmethod
    def _sliced_score(rows: pd.DataFrame, task: str, pct: float) -> tuple | None:
        at = (rows["task"] == task) & (rows["pruning_pct"] == pct) & (rows["metric"] == TASKS[task].metric)
        return (*rows.loc[at, ["value", "stderr", "n"]].iloc[0], UNPAIRED) if at.any() else None

    @once
    def _row(self, model, measure, name, criterion="none", pct=0.0) -> pd.Series:
        table = self.grown_table.get("misconceptions", pd.DataFrame())
        if not len(table):
            raise NotMeasured("where misconceptions sit was not measured")
        at = (table["model"] == model) & (table["measure"] == measure) & (table["set"] == name)
        at &= (table["criterion"] == criterion) & ((table["pruning_pct"] - pct).abs() < 1e-6)
        if not at.any():
            raise NotMeasured(f"{model}: {measure} of {name} was not measured under {criterion} at {pct:g}%")
        return table[at].iloc[0]


def _point(prose: tuple, score: tuple) -> tuple:
    """Logarithm of the prose perplexity and its error; score and its error; texts of the prose, items of the score."""
    (x, dx, texts, _), (y, dy, n, _) = prose, score
    return np.log(x), dx / x, y, dy, texts, n


def _beyond(line: np.ndarray, point: tuple | None, label: str) -> Effect | None:
    """How far a point's score lies above a line of points at its damage.

    None where the line does not reach that far, or is of another number of items.
    """
    if not point or len(line) < 2 or tuple(point[4:]) != tuple(line[0, 4:]):
        return None
    # A perplexity may fall a little from one width to the next: damage is the most so far.
    damage = np.maximum.accumulate(line[:, 0])
    if point[0] > damage[-1]:
        return None
    x, dx, y, dy, _, n = point
    # Before the first point the line is level: less damage than none is none.
    dx_line, y_line, dy_line = (np.interp(x, damage, column) for column in line.T[1:4])
    # Both perplexities have errors: so has the place at which the line is read.
    off = np.hypot(dx, dx_line)
    ends = np.interp([x - off, x + off], damage, line[:, 2])
    stderr = np.sqrt(dy**2 + dy_line**2 + (np.ptp(ends) / 2) ** 2)
    return Effect(float(y - y_line), float(stderr), line[0, 2], n, label)
