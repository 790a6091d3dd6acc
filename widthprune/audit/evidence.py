"""Evidence: what the rules of the claim ledger may ask, each a named function over the tables.

A rule is an expression such as ``change("1B", "ifeval", 40)``; `widthprune.audit.ledger` evaluates it. Published
numbers answer to short model names, measured ones to the names of `widthprune.load_model`. What has an error is an
`widthprune.audit.effects.Effect`, and is judged by `widthprune.audit.effects.Rule`.
"""

import copy
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.stats import norm

from ..errors import WidthPruneError
from ..report.published import published
from ..report.stats import correlate
from ..report.tasks import TASKS, headline
from ..sizes import kept_size
from .association import associations
from .effects import UNSURE, Effect, Rule, both, control, inverse
from .evidence_efficiency import EfficiencyEvidence
from .evidence_measured import MeasuredEvidence
from .floors import headline_floors
from .lookup import LLAMA, NoEvidence, only, where
from .proportions import against_unpruned

__all__ = ["Evidence", "NoEvidence"]
PLAIN = {
    f.__name__: f for f in (abs, all, any, len, max, min, range, round, sorted, sum, zip, bool, float, set)
}
PCTS = range(10, 70, 10)


def _as_effect(r: float, p: float, n: float, label: str, family: int = 1) -> Effect:
    """A correlation as an effect with the p given, which allows for a family of tests."""
    z = float(norm.isf(max(p, 1e-300) / 2))  # a straight line has a p of nothing
    return Effect(r, abs(r) / z if z > 0 else np.inf, n=n, label=label, points=True, family=family)


class Evidence(EfficiencyEvidence, MeasuredEvidence):
    """The tables that verdicts are computed from.

    Parameters
    ----------
    measured : DataFrame
        From `widthprune.load_results`; may be empty.
    floors : DataFrame
        From `widthprune.audit.floors.load_floors`.
    capabilities, criteria, runs, shapes : DataFrame, optional
        The published tables; default those that ship with the package.
    """

    def __init__(self, measured, floors, *, capabilities=None, criteria=None, runs=None, shapes=None):
        self.measured_table, self.floor_table = measured, floors
        self.capabilities = published("capabilities") if capabilities is None else capabilities
        self.criteria_table = published("criteria") if criteria is None else criteria
        self.runs = published("efficiency_runs") if runs is None else runs
        self.shapes = published("architectures") if shapes is None else shapes
        self.rule, self.without, self.floor_kinds = Rule(), None, ("blind",)
        self.seen = []

    def vary(self, *, sigmas=2.0, holm=True, without=None, floor_kinds=("blind",)) -> "Evidence":
        """The same tables under other rules: another threshold, no correction, a model left out, other floors."""
        # What does not depend on these was computed once, and goes along.
        self._pairs, self._tested, self._values, self._summary, self._kinds, self._working, self._runs  # noqa: B018
        other = copy.copy(self)
        other.rule, other.without, other.floor_kinds = Rule(sigmas, holm), without, floor_kinds
        other.seen = []
        return other

    def names(self) -> dict:
        """What an expression may use: the methods of this class, `Rule`'s, and Python's arithmetic of collections."""
        own = {
            name: getattr(self, name)
            for cls in (Evidence, EfficiencyEvidence, MeasuredEvidence)
            for name, method in vars(cls).items()
            if callable(method) and not name.startswith("_") and name not in ("names", "vary", "models")
        }
        rule = self.rule
        verbs = (rule.rises, rule.falls, rule.keeps, rule.some_rise, rule.not_worse, rule.compare)
        verbs = {f.__name__: f for f in (*verbs, both, control, inverse)}
        return own | verbs | PLAIN | {"log": np.log, "PCTS": PCTS}

    # Published benchmarks.

    def value(self, model: str, task: str, pct: float, metric: str | None = None) -> float:
        """A published score."""
        key = (LLAMA[model], task, metric or TASKS[task].metric, pct)
        if pd.isna(self._values.get(key)):
            raise NoEvidence(f"no single value for {task} of {model} at {pct}%")
        return float(self._values[key])

    def change(self, model: str, task: str, pct: float, metric: str | None = None) -> float:
        """Change of a published score from the unpruned model's, in %."""
        return 100 * (self.value(model, task, pct, metric) / self.value(model, task, 0, metric) - 1)

    def points(self, model: str, task: str, pct: float) -> float:
        """The same in percentage points."""
        return 100 * (self.value(model, task, pct) - self.value(model, task, 0))

    def kept(self, model: str, task: str, pct: float) -> float:
        """What is left, in %, of the unpruned model's distance from the floor."""
        floor = self.floor(task)
        return 100 * (self.value(model, task, pct) - floor) / (self.value(model, task, 0) - floor)

    def gap(self, task: str, pct: float) -> float:
        """Published score of 1B-Instruct less that of 1B."""
        return self.value("1B-Instruct", task, pct) - self.value("1B", task, pct)

    def ratio(self, model: str, pct: float) -> float:
        """The expansion ratio at a percentage."""
        rows = where(self.capabilities, model=LLAMA[model], pruning_pct=pct)
        return float(rows["expansion_ratio"].iloc[0])

    def peak(self, model: str, task: str) -> float:
        """The percentage of neurons removed at which a published score is highest."""
        return max((0, *PCTS), key=lambda pct: self.value(model, task, pct))

    def floor(self, task: str, responder: str | None = None) -> float:
        """Score of an uninformed responder: the blind floor, the "reading" one, or a named responder's."""
        if responder in (None, "reading"):
            kinds = self.floor_kinds if responder is None else (responder,)
            known = [self._floors[kind][task] for kind in kinds if task in self._floors[kind]]
            if not known:
                raise NoEvidence(f"no floor of {task}")
            return max(known) if TASKS[task].higher_is_better else min(known)
        rows = where(self.floor_table, task=task, responder=responder)
        return only(rows[rows["metric"] == TASKS[task].metric], f"{task} of {responder}")

    def moved(self, model: str, task: str, pct: float, start: float = 0) -> Effect:
        """The published effect of pruning, from the unpruned model or from ``start``, with binomial errors."""
        (x, dx, _), (y, dy, n) = (self._point(model, task, at) for at in (start, pct))
        return Effect(
            y - x, float(np.hypot(dx, dy)), x, n, f"{TASKS[task].label} of {model}, {start:g} to {pct:g}%"
        )

    def error(self, model: str, task: str, pct: float) -> float:
        """Binomial standard error of a published score, for the official number of items."""
        return self._point(model, task, pct)[1]

    def above(self, model: str, task: str, pct: float, responder: str | None = None) -> bool:
        """Whether a published score is better than a responder that knows nothing, by two standard errors."""
        value, error, _ = self._point(model, task, pct)
        return value > self.floor(task, responder) + self.rule.sigmas * error

    def like(self, model: str, task: str, pct: float, *responders: str) -> bool:
        """Whether a responder that knows nothing would show what pruning did: the control of every score.

        Its score differs from the unpruned model's, in the direction in which pruning moved it and by two
        standard errors, and the pruned model's score is not above it by two. For a fall, the pruned model is at
        the floor; for a rise, a text that ignores the prompt is as high. Default is the floor.
        """
        before, error, _ = self._point(model, task, 0)
        after = self._point(model, task, pct)[0]
        for responder in responders or (None,):
            way = self.floor(task, responder) - before
            shows = abs(way) > self.rule.sigmas * error and (way > 0) == (after > before)
            if shows and not self.above(model, task, pct, responder):
                return True
        return False

    def pair(self, model: str, knowledge: str, behaviour: str, column: str = "r") -> float:
        """A column of `widthprune.audit.association.associations` on the published table; NaN if one does not move."""
        asked = dict(model=LLAMA[model], knowledge=knowledge, behaviour=behaviour)
        scores = [
            where(headline(self.capabilities), model=LLAMA[model], task=task)["value"]
            for task in (knowledge, behaviour)
        ]
        if any(score.nunique() == 1 for score in scores):
            return np.nan
        rows = where(self._pairs, **asked)
        if column not in rows:  # what takes long is computed for the pair alone
            table = where(self.capabilities, model=LLAMA[model])
            rows = associations(table[table["task"].isin([knowledge, behaviour])])
        return only(rows, f"{knowledge} and {behaviour} of {model}", column)

    def follows_dose(self, model: str, knowledge: str, behaviour: str) -> bool | str:
        """Whether r is what the ratio alone gives: of one sign with it, and it within the 95% interval of r."""
        r, dose, low, high = (
            self.pair(model, knowledge, behaviour, name) for name in ("r", "dose_r", "low", "high")
        )
        return UNSURE if np.isnan(r) else bool(r * dose > 0 and low <= dose <= high)

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
    def _floors(self) -> dict[str, pd.Series]:
        return {kind: headline_floors(self.floor_table, kind) for kind in ("blind", "reading")}

    @cached_property
    def _pairs(self) -> pd.DataFrame:
        try:
            return associations(self.capabilities, self._floors["blind"], resampled=False)
        except WidthPruneError:  # no pair moves
            return pd.DataFrame(columns=["model", "knowledge", "behaviour"])

    @cached_property
    def _tested(self) -> dict:
        rows = against_unpruned(headline(self.capabilities))
        points = rows[["value", "binomial_se", "items"]].astype(float).itertuples(index=False, name=None)
        return dict(
            zip(zip(rows["model"], rows["task"], rows["pruning_pct"], strict=True), points, strict=True)
        )

    @cached_property
    def _criteria(self) -> dict:
        return self.criteria_table.set_index(["paper_version", "criterion", "task"])["value"].to_dict()

    @cached_property
    def _values(self) -> dict:
        return self.capabilities.set_index(["model", "task", "metric", "pruning_pct"])["value"].to_dict()

    def _point(self, model, task, pct) -> tuple[float, float, float]:
        """A published score, its binomial standard error, and the official number of items."""
        try:
            return self._tested[LLAMA[model], task, pct]
        except KeyError:
            raise NoEvidence(f"no single value for {task} of {model} at {pct}%") from None
