"""Evidence: what the rules of the claim ledger may ask, each a named function over the tables.

A rule is an expression such as ``change("1B", "ifeval", 40)``; `widthprune.audit.ledger` evaluates it. Published
numbers answer to short model names, measured ones to the names of `widthprune.load_model`. What has an error is an
`widthprune.audit.effects.Effect`, and is judged by `widthprune.audit.effects.Rule`.
"""

import copy
from functools import cached_property

import numpy as np
import pandas as pd

from ..errors import WidthPruneError
from ..report.published import published
from ..report.stats import correlate
from ..report.tasks import TASKS, headline
from ..sizes import kept_size
from .association import associations
from .effects import Effect, Rule, both, control, further, inverse, threshold
from .evidence_efficiency import EfficiencyEvidence
from .evidence_grown import GrownEvidence
from .evidence_measured import MeasuredEvidence
from .evidence_published import PCTS, PublishedEvidence
from .evidence_studies import StudiesEvidence
from .lookup import LLAMA, NoEvidence, once, only, where

__all__ = ["Evidence", "NoEvidence"]
PLAIN = {
    f.__name__: f for f in (abs, all, any, len, max, min, range, round, sorted, sum, zip, bool, float, set)
}


def _as_effect(r: float, p: float, n: float, label: str, family: int = 1) -> Effect:
    """A correlation as an effect with the p given, which allows for a family of tests."""
    z = threshold(max(p, 1e-300))  # a straight line has a p of nothing
    return Effect(r, abs(r) / z if z > 0 else np.inf, n=n, label=label, unit="points", family=family)


class Evidence(PublishedEvidence, EfficiencyEvidence, MeasuredEvidence, GrownEvidence, StudiesEvidence):
    """The tables that verdicts are computed from: the published ones that ship with the package, and those given.

    Parameters
    ----------
    measured : DataFrame
        From `widthprune.load_results`; may be empty.
    floors : DataFrame
        From `widthprune.audit.floors.load_floors`.
    grown : mapping of str to DataFrame, optional
        Of the models grown here, each study's table, from `widthprune.studies.stored.StoredStudies`; default none.
    """

    def __init__(self, measured, floors, *, grown=None):
        self.measured_table, self.floor_table = measured, floors
        self.grown_table = grown or {}
        self.capabilities, self.criteria_table = published("capabilities"), published("criteria")
        self.runs, self.shapes = published("efficiency_runs"), published("architectures")
        self.rule, self.without, self.floor_kinds = Rule(), None, ("blind",)
        self.seen = []
        # Remembered for all copies that `vary` makes: none of it depends on what varies.
        self._found, self._kinds, self._working = {}, {}, {}

    def vary(self, *, without=None, floor_kinds=("blind",), **rule) -> "Evidence":
        """The same tables under another `Rule`, with a model left out, or with other floors."""
        # What does not depend on these was computed once, and goes along.
        self._pairs, self._still, self._tested, self._values, self._summary, self._runs  # noqa: B018
        other = copy.copy(self)
        other.rule, other.without, other.floor_kinds = Rule(**rule), without, floor_kinds
        other.seen = []
        return other

    def names(self) -> dict:
        """What an expression may use: the methods of this class, `Rule`'s, and Python's arithmetic of collections."""
        own = {
            name: getattr(self, name)
            for cls in Evidence.__mro__[:-1]
            for name, method in vars(cls).items()
            if callable(method) and not name.startswith("_") and name not in ("names", "vary", "models")
        }
        rule = self.rule
        verbs = (
            rule.rises,
            rule.falls,
            rule.keeps,
            rule.some_rise,
            rule.some_differ,
            rule.not_worse,
            rule.compare,
        )
        verbs = {f.__name__: f for f in (*verbs, both, control, inverse, further)}
        return own | verbs | PLAIN | {"log": np.log, "PCTS": PCTS}

    # Associations of published benchmarks.

    @once
    def pair(self, model: str, knowledge: str, behaviour: str, column: str = "r") -> float:
        """A column of `widthprune.audit.association.associations` on the published table; NaN if one does not move."""
        asked = dict(model=LLAMA[model], knowledge=knowledge, behaviour=behaviour)
        if any((LLAMA[model], task) in self._still for task in (knowledge, behaviour)):
            return np.nan
        rows = where(self._pairs, **asked)
        if column not in rows:  # what takes long is computed for the pair alone
            table = where(self.capabilities, model=LLAMA[model])
            rows = associations(table[table["task"].isin([knowledge, behaviour])])
        return only(rows, f"{knowledge} and {behaviour} of {model}", column)

    def beyond_ratio(self, model: str, knowledge: str, behaviour: str) -> Effect:
        """Whether the pruning ratio alone explains a correlation: an effect to give to `Rule.compare`, as of a control.

        The ratio drives both benchmarks. What it does not explain is their partial correlation given the ratio. The
        effect is Fisher's z of that partial correlation, negative where it has the sign of the correlation itself,
        and its error 1 / sqrt(n - 4) for n widths; ``before`` is Fisher's z of the correlation. So the ratio "does as
        much" if what is left is surely less than the margin's share of the correlation.
        """
        r, left, p, n = (
            self.pair(model, knowledge, behaviour, name) for name in ("r", "partial_r", "partial_p", "n")
        )
        z, whole = (np.arctanh(np.clip(x, -1 + 1e-12, 1 - 1e-12)) for x in (left, r))
        return Effect(-float(np.sign(r) * z), 1 / np.sqrt(n - 4), abs(float(whole)), n, p=p)

    def ratio_needs(self, model: str, knowledge: str, behaviour: str) -> str:
        """In words, how many widths it takes before `beyond_ratio` could say that the ratio does as much.

        Even if nothing were left, the error at n widths has to be below the margin.
        """
        effect = self.beyond_ratio(model, knowledge, behaviour)
        if not effect.before > 0:
            raise NoEvidence(f"{knowledge} and {behaviour} of {model} do not move together")
        needed = 4 + (self.rule.sigmas / (self.rule.margin * effect.before)) ** 2
        if effect.n > needed:
            return f"n = {effect.n:.0f} is enough to ask whether the ratio does as much"
        return (
            f"at n = {effect.n:.0f} no control of this kind could say that the ratio does as much: "
            f"it takes more than {int(needed)} widths"
        )

    def without_ratio(self, model: str, knowledge: str, behaviour: str) -> str:
        """What is left of a correlation without the ratio, each way, in words."""
        dose, left, p, steps, steps_p = (
            self.pair(model, knowledge, behaviour, name)
            for name in ("dose_r", "partial_r", "partial_p", "steps_r", "steps_p")
        )
        return (
            f"the ratio alone would give {dose:.2f}; given it {left:.2f} is left (p = {p:.2f}), "
            f"and from one width to the next {steps:.2f} (p = {steps_p:.2f})"
        )

    def pairs(self) -> int:
        """How many pairs of a knowledge and a behaviour benchmark the published models have: Holm's family."""
        return len(self._pairs)

    def correlated(self, model: str, knowledge: str, behaviour: str) -> Effect:
        """How strongly two benchmarks go together, whichever way: an effect whose p is `p_holm` of all pairs."""
        r, p, n = (
            self.pair(model, knowledge, behaviour, name)
            for name in ("r", "p_holm" if self.rule.holm else "p", "n")
        )
        label = f"widths, {TASKS[knowledge].label} with {TASKS[behaviour].label} of {model}"
        return _as_effect(abs(r), p, n, label, len(self._pairs) if self.rule.holm else 1)

    def inverse_pair(self, model: str) -> Effect:
        """How strongly knowledge and truthfulness of a measured model go opposite ways while it works: an effect."""
        effects = [self.path(model, task) for task in (self.knowledge(model), self.truthfulness(model))]
        levels = [[0, *(e.change for e in path)] for path in effects]
        if len({len(path) for path in levels}) > 1 or len(levels[0]) < 4:
            raise NoEvidence(f"{model} works at fewer than four widths, too few for a correlation")
        try:
            found = correlate(*levels)
        except WidthPruneError as error:
            raise NoEvidence(f"{model}: {error}") from None
        return _as_effect(-found.r, found.p, found.n, f"widths of {model}")

    # Published criteria and shapes.

    def criterion(self, version: str, name: str, task: str) -> float:
        """A published score of Llama-3.2-1B at 10% under a criterion; "none" is the unpruned model."""
        if (version, name, task) not in self._criteria:
            raise NoEvidence(f"no single value for {task} under {name} in {version}")
        return float(self._criteria[version, name, task])

    def rise(self, name: str, task: str) -> float:
        """Rise of a perplexity under a criterion in v1's comparison, in %."""
        return 100 * (self.criterion("v1", name, task) / self.criterion("v1", "none", task) - 1)

    def criteria(self, version: str) -> set:
        """Names of the criteria in a version's table."""
        return set(where(self.criteria_table, paper_version=version)["criterion"])

    def neurons(self, model: str, pct: float) -> int:
        """Neurons left in each layer."""
        rows = where(self.shapes, model=LLAMA[model], pruning_pct=pct)
        return int(only(rows, f"{model} at {pct}%", "intermediate_size_after"))

    def parameters_follow(self) -> int:
        """How many published parameter counts differ from 3 x hidden size x layers fewer a neuron removed."""
        s = self.shapes
        left = [
            kept_size(before, hidden, pruning_pct=pct)
            for before, hidden, pct in zip(
                s["intermediate_size_before"], s["hidden_size"], s["pruning_pct"], strict=True
            )
        ]
        removed = s["intermediate_size_before"] - left
        expected = s["total_parameters_before"] - 3 * s["hidden_size"] * s["num_hidden_layers"] * removed
        return int((expected != s["total_parameters_after"]).sum())

    # Computed once.

    @cached_property
    def _still(self) -> set[tuple[str, str]]:
        """Model and benchmark of published scores that are the same at every width."""
        values = headline(self.capabilities).groupby(["model", "task"])["value"].nunique()
        return set(values[values == 1].index)

    @cached_property
    def _pairs(self) -> pd.DataFrame:
        try:
            return associations(self.capabilities, resampled=False)
        except WidthPruneError:  # no pair moves
            return pd.DataFrame(columns=["model", "knowledge", "behaviour"])

    @cached_property
    def _criteria(self) -> dict:
        return self.criteria_table.set_index(["paper_version", "criterion", "task"])["value"].to_dict()
