"""What rules may ask of where misconceptions sit: effects over pairs of a truth and a myth, or a plain falsehood."""

import pandas as pd

from ..studies.pairs import SETS
from .effects import Effect
from .lookup import NotMeasured


class MisconceptionEvidence:
    """The part of `widthprune.audit.evidence.Evidence` that reads the study ``misconceptions`` of ``self.grown_table``."""

    def myths_fall(self, model: str, name: str, pct: float, criterion: str = "PPM") -> Effect:
        """By how much further the log-odds of a set's myths move without the neurons of a criterion than without random ones."""
        before = self._row(model, "odds_before", name)
        found = self._row(model, "against_random", name, criterion, pct)
        label = f"odds of {name} under {criterion} against RANDOM at {pct:g}%"
        return Effect(
            found["value"], found["stderr"], before["value"], found["n"], f"{model}: {label}", unit="pairs"
        )

    def myths_held(self, model: str, pct: float) -> Effect:
        """By how much larger a share of the log-odds lies in the neurons PPM removes for myths than for plain falsehoods.

        Both are means over sets, with the errors of all of them.
        """
        means = {}
        for myths in (True, False):
            rows = [
                self._row(model, "share", name, "PPM", pct)
                for name, (is_myth, *_) in SETS.items()
                if is_myth == myths
            ]
            variance = sum(row["stderr"] ** 2 for row in rows) / len(rows) ** 2
            means[myths] = (
                sum(row["value"] for row in rows) / len(rows),
                variance,
                sum(row["n"] for row in rows),
            )
        (myth, one, n), (other, two, m) = means[True], means[False]
        label = f"{model}: share of myths against plain falsehoods in the lowest {pct:g}%"
        return Effect(myth - other, (one + two) ** 0.5, other, n + m, label, unit="pairs")

    def _row(self, model, measure, name, criterion="none", pct=0.0) -> pd.Series:
        table = self.grown_table.get("misconceptions", pd.DataFrame())
        if not len(table):
            raise NotMeasured("where misconceptions sit was not measured")
        at = (table["model"] == model) & (table["measure"] == measure) & (table["set"] == name)
        at &= (table["criterion"] == criterion) & ((table["pruning_pct"] - pct).abs() < 1e-6)
        if not at.any():
            raise NotMeasured(f"{model}: {measure} of {name} was not measured under {criterion} at {pct:g}%")
        return table[at].iloc[0]
