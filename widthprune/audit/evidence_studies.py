"""What rules may ask of the studies of packaged models: where misconceptions sit, and what SliceGPT does at equal size."""

import numpy as np
import pandas as pd

from ..report.tasks import TASKS
from ..studies.pairs import MYTHS, QUESTIONS, SETS
from .effects import Effect
from .evidence_measured import UNPAIRED
from .lookup import NoEvidence, NotMeasured, once


class StudiesEvidence:
    """The part of `widthprune.audit.evidence.Evidence` that reads ``misconceptions`` and ``slicegpt`` of ``self.grown_table``."""

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
        table = self.grown_table.get("slicegpt", pd.DataFrame())
        if not len(table) or model not in set(table["model"]):
            raise NotMeasured(f"{model} was not sliced")
        rows = table[(table["model"] == model) & (table["counted"] == "without embeddings")]
        effects = []
        for pct in sorted(set(rows["pruning_pct"])):
            scores = {name: self._sliced_score(rows, name, pct) for name in ("pocket_prose", task)}
            if None not in scores.values() and self._better_than_floor(
                "pocket_prose", scores["pocket_prose"]
            ):
                before = self._score(self._same_items(model, task, [], [0], False), model, task, "none", 0)
                what = f"sliced to the size of {pct:g}%"
                effects.append(self._effect(model, task, before, scores[task], what, False))
        if not effects:
            raise NoEvidence(f"{model}: no size at which its sliced model works")
        return effects

    def criteria_apart(self, model: str, task: str) -> list[Effect]:
        """How much more of a benchmark each criterion leaves than PPM where it damaged prose as much, while the model works."""
        return list(self.apart(model, task).values())

    def apart(self, model: str, task: str) -> dict[tuple[str, float], Effect]:
        """`criteria_apart` by criterion and percentage.

        PPM's scores are interpolated between its widths, over the logarithm of the perplexity, and never beyond them.
        """
        line = [self._at(model, task, "PPM", pct) for pct in (0, *self.widths(model))]
        if None in line or len(line) < 2:
            raise NotMeasured(f"{model} was not measured on {TASKS[task].label} under PPM while it works")
        # A perplexity may fall a little from one width to the next: damage is the most so far.
        damage = np.maximum.accumulate([at[0] for at in line])
        rows, effects = self.measured_table, {}
        for criterion in sorted(set(rows.loc[rows["model"] == model, "criterion"]) - {"none", "PPM"}):
            for pct in self.widths(model, criterion):
                found = self._at(model, task, criterion, pct)
                if found and found[0] <= damage[-1]:
                    at, score, stderr, n = found
                    ours, error = (np.interp(at, damage, [each[i] for each in line]) for i in (1, 2))
                    label = (
                        f"{TASKS[task].label} of {model}, {criterion} at {pct:g}% against PPM at equal damage"
                    )
                    both = float(np.hypot(stderr, error))
                    effects[criterion, pct] = Effect(score - ours, both, line[0][1], n, label)
        if not effects:
            raise NotMeasured(
                f"{model} was not measured on {TASKS[task].label} under two criteria while it works"
            )
        return effects

    def _at(self, model: str, task: str, criterion: str, pct: float) -> tuple | None:
        """Logarithm of the prose perplexity, and score, error and items of a benchmark; None where one was not measured."""
        found = []
        for name in ("pocket_prose", task):
            cells = self._same_items(model, name, [criterion], [0, pct], False)
            try:
                found.append(self._score(cells, model, name, criterion if pct else "none", pct))
            except NotMeasured:
                return None
        self.seen.append((model, task, f"{criterion} at {pct:g}%", int(found[1][2]), False, False))
        return (np.log(found[0][0]), *found[1][:3])

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
