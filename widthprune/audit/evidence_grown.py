"""What rules may ask of the models grown here: effects over seeds, each seed with a world, weights and order of its own.

The error is that of the mean over seeds, and its p is Student's: so few are no normal distribution. Criteria are
compared where they did equal damage to prose, as `widthprune.studies.comparing` says.
"""

from collections.abc import Callable

import pandas as pd
from scipy.special import stdtrit

from ..errors import WidthPruneError
from ..report.tables import as_word
from ..studies.comparing import advantage, at_equal_damage, over_seeds
from .effects import Effect
from .lookup import NoEvidence, once

KEYS = ["kind", "seed", "stage"]


class GrownEvidence:
    """The part of `widthprune.audit.evidence.Evidence` that reads ``self.grown_table``, by study."""

    def grown(self, kind: str, stage: str, measure: str, one: str, other: str) -> Effect:
        """By how much more of a measure one criterion leaves than another, at equal damage to prose."""
        found = self._compared(advantage, "removal", kind, stage, measure, one, other)
        whole = self._whole("removal", kind, stage, measure)
        return self._over_seeds(found, whole, f"{as_word(measure)} under {one} against {other}, {kind}")

    def grown_further(
        self, kind: str, stage: str, measures: tuple, pairs: tuple, study: str = "removal"
    ) -> Effect:
        """How much further one such difference goes than another: of two measures, each with a pair of criteria."""
        one, other = (
            self._compared(advantage, study, kind, stage, measure, *pair)
            for measure, pair in zip(measures, pairs, strict=True)
        )
        whole = self._whole(study, kind, stage, measures[0])
        said = [f"{as_word(m)} under {' against '.join(p)}" for m, p in zip(measures, pairs, strict=True)]
        return self._over_seeds(one - other, whole, f"{' beyond '.join(said)}, {kind}")

    def grown_dichotomy(self, kind: str, criterion: str) -> Effect:
        """The share of its instructions that a tuned model keeps, minus the share of its knowledge, at equal damage to prose."""
        return self._over_seeds(self._dichotomy(kind, criterion), 1.0, f"dichotomy under {criterion}, {kind}")

    def grown_dichotomy_further(self, kind: str, one: str, other: str) -> Effect:
        """By how much that is larger under one criterion than under another."""
        found = self._dichotomy(kind, one) - self._dichotomy(kind, other)
        return self._over_seeds(found, 1.0, f"dichotomy under {one} against {other}, {kind}")

    def grown_share(self, kind: str, pct: float) -> Effect:
        """By how much the share of tuning's squared change that lies in the neurons PPM removes is above that of random sets."""
        return self._over_seeds(
            self._surplus(kind, pct), pct / 100, f"share of the change at {pct:g}%, {kind}"
        )

    def grown_undone(self, kind: str, pct: float) -> Effect:
        """By how much better instructions are with the change undone in the neurons PPM removes than in as many random ones."""
        means = self._put_back(kind, pct)
        if not {"kept", "not random", "everything"} <= set(means):
            raise NoEvidence(f"no change was put back at {pct:g}% in grown {kind} models")
        before = float(means["everything"].mean())
        return self._over_seeds(
            means["kept"] - means["not random"], before, f"instructions undone at {pct:g}%, {kind}"
        )

    def grown_held(self, kind: str, pct: float, tier: str) -> Effect:
        """By how much larger a share of the odds of its other value lies in the neurons PPM removes than of common facts."""
        rows = self._study("attributed", kind)
        rows = rows[(rows["measure"] == "share") & (rows["pruning_pct"] == pct)]
        shares = rows.pivot(index="seed", columns="set", values="value")
        whole = shares["common"].mean() + pct / 100  # stored less the part of neurons that these are
        label = f"share of {tier} against common at {pct:g}%, {kind}"
        return self._over_seeds(shares[tier] - shares["common"], whole, label)

    @once
    def grown_seeds(self) -> int:
        """How many seeds of each kind were grown and measured."""
        grown = [table for table in self.grown_table.values() if "kind" in table]
        tables = [table.groupby("kind")["seed"].nunique() for table in grown]
        return int(min((seeds.min() for seeds in tables if len(seeds)), default=0))

    @once
    def _surplus(self, kind: str, pct: float) -> pd.Series:
        """Of each seed, the share of the change above that of random sets."""
        rows = self._study("shares", kind)
        rows = rows[rows["pruning_pct"] == pct].set_index("seed")
        return rows["share"] - rows["random"]

    @once
    def _put_back(self, kind: str, pct: float) -> pd.DataFrame:
        """Instructions by seed, and by where the change was put back."""
        rows = self._study("causal", kind)
        rows = rows[(rows["measure"] == "instructions") & rows["pruning_pct"].isin([0, pct])]
        return rows.groupby(["seed", "put_back"])["value"].mean().unstack()

    @once
    def _dichotomy(self, kind: str, criterion: str) -> pd.Series:
        kept = []
        for measure in ("known", "instructions"):
            found = self._compared(at_equal_damage, "tuned", kind, "tuned", measure)
            own = found[found["criterion"] == criterion].groupby(KEYS)["value"].mean()
            kept.append(own / self._by_seed("tuned", kind, "tuned", measure))
        return kept[1] - kept[0]

    @once
    def _by_seed(self, study: str, kind: str, stage: str, measure: str) -> pd.Series:
        """A measure of each unpruned model."""
        rows = self._study(study, kind, stage)
        return rows[(rows["criterion"] == "none") & (rows["measure"] == measure)].set_index(KEYS)["value"]

    def _whole(self, study: str, kind: str, stage: str, measure: str) -> float:
        return float(self._by_seed(study, kind, stage, measure).mean())

    @once
    def _compared(self, compare: Callable, study: str, kind: str, stage: str, *asked: str):
        """What a comparison gives of a study's rows; what it cannot compare is no evidence."""
        rows = self._study(study, kind, stage)
        try:
            return compare(rows, *asked)
        except WidthPruneError as error:
            raise NoEvidence(str(error)) from None

    @once
    def _study(self, study: str, kind: str, stage: str | None = None) -> pd.DataFrame:
        rows = self.grown_table.get(study, pd.DataFrame(columns=KEYS))
        rows = rows[rows["kind"] == kind]
        rows = rows if stage is None else rows[rows["stage"] == stage]
        if rows["seed"].nunique() < 2:
            raise NoEvidence(f"{study} of grown {kind} models was measured with fewer than two seeds")
        return rows

    def _over_seeds(self, values: pd.Series, before: float, label: str) -> Effect:
        try:
            found = over_seeds(values)
        except WidthPruneError as error:
            raise NoEvidence(f"{label}: {error}") from None
        # Where a rule asks for so many standard errors, those of Student's distribution are meant.
        wider = -stdtrit(found["seeds"] - 1, self.rule.alpha / 2) / self.rule.sigmas
        return Effect(
            found["mean"], found["stderr"] * wider, before, found["seeds"], label, found["p"], unit="seeds"
        )
