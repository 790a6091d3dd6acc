"""What rules may ask of the paper's own benchmarks: scores, their changes with errors, and floors.

Published scores have binomial errors for the official number of items; the paper gives none for perplexities, and for
three benchmarks those that it gives are binomial.
"""

from functools import cached_property

import numpy as np
import pandas as pd

from ..report.stats import difference, relative_difference
from ..report.tasks import TASKS, headline
from .effects import AS_MUCH, MORE, NO, UNSURE, Effect, answer_of, control
from .floors import floors_and_errors
from .lookup import LLAMA, NoEvidence, once, only, where
from .proportions import against_unpruned

PCTS = range(10, 70, 10)
BASE = ("1B", "3B")


class PublishedEvidence:
    """The part of `widthprune.audit.evidence.Evidence` that reads ``self.capabilities`` and ``self.floor_table``."""

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

    def gap(self, task: str, pct: float) -> float:
        """Published score of 1B-Instruct less that of 1B."""
        return self._gap(task, pct)[0]

    def ratio(self, model: str, pct: float) -> float:
        """The expansion ratio at a percentage."""
        rows = where(self.capabilities, model=LLAMA[model], pruning_pct=pct)
        return float(rows["expansion_ratio"].iloc[0])

    def peak(self, model: str, task: str) -> float:
        """The percentage of neurons removed at which a published score is highest."""
        return max((0, *PCTS), key=lambda pct: self.value(model, task, pct))

    # Effects.

    def moved(self, model: str, task: str, pct: float, start: float = 0) -> Effect:
        """The published effect of pruning, from the unpruned model or from ``start``."""
        (x, dx, _), (y, dy, n) = (self._point(model, task, at) for at in (start, pct))
        label = f"{TASKS[task].label} of {model}, {start:g} to {pct:g}%"
        return Effect(*difference((x, dx), (y, dy)), x, n, label)

    def relative(
        self, model: str, task: str, pct: float, metric: str | None = None, *, above_floor: bool = False
    ) -> Effect:
        """The published change as a share of the unpruned score, or of what that has above the floor."""
        (x, dx, _), (y, dy, n) = (self._point(model, task, at, metric) for at in (0, pct))
        floor = self.floor(task) if above_floor else 0.0
        found = relative_difference((x - floor, dx), (y - floor, dy))
        return Effect(*found, 1.0, n, f"{TASKS[task].label} of {model}, 0 to {pct:g}%")

    def closes(self, task: str, pct: float) -> Effect:
        """How far the gap between 1B-Instruct and 1B is below the margin's share of what it is unpruned."""
        (gap, dgap, _), (left, dleft, n) = (self._gap(task, at) for at in (0, pct))
        share = self.rule.margin
        closed = difference((abs(left), dleft), (share * abs(gap), share * dgap))
        return Effect(*closed, abs(gap), n, f"{TASKS[task].label}, instruct less base, 0 to {pct:g}%")

    def approaches(self, model: str, task: str, pct: float) -> Effect:
        """How much nearer pruning brought a published score to the floor."""
        floor = self.floor(task)
        (x, dx, _), (y, dy, n) = (self._point(model, task, at) for at in (0, pct))
        nearer = difference((abs(y - floor), dy), (abs(x - floor), dx))
        return Effect(*nearer, x, n, f"{TASKS[task].label} of {model}, 0 to {pct:g}%")

    # Floors.

    def floor(self, task: str, responder: str | None = None) -> float:
        """Score of an uninformed responder: the blind floor, the "reading" one, or a named responder's."""
        return self._floor_and_error(task, responder)[0]

    def floor_error(self, task: str) -> float:
        """The standard error of the blind floor: 0 where it is known and not sampled."""
        return self._floor_and_error(task)[1]

    def over_floor(self, model: str, task: str, pct: float, responder: str | None = None) -> Effect:
        """How far a published score is above a responder's, with both errors."""
        value, error, n = self._point(model, task, pct)
        found = difference(self._floor_and_error(task, responder), (value, error))
        return Effect(*found, value, n, f"{TASKS[task].label} of {model} at {pct:g}%, over the floor")

    def above(self, model: str, task: str, pct: float, responder: str | None = None) -> bool:
        """Whether a published score is significantly better than a responder that knows nothing.

        With Holm's correction over all published widths of the base models, or over those of the instruct model.
        """
        return self._side(model, task, pct, responder) > 0

    def ends(self, *points: tuple[str, str, float]) -> str:
        """Where falls end, in words: each point is a model, a task and a percentage."""
        return f"ends {'' if any(self.above(*at) for at in points) else 'not significantly '}above the floor"

    def echoed(self, task: str) -> str:
        """What the prompt echoed scores, beside the best pruned base model, in words."""
        best = max(self.value(model, task, pct) for model in BASE for pct in PCTS)
        return (
            f"the prompt echoed has {self.floor(task, 'reading'):.3f} (the prompt-reading floor), "
            f"the best pruned base model {best:.3f}"
        )

    def like(self, model: str, task: str, pct: float, *responders: str) -> str:
        """What a responder that knows nothing does of a rise: "does as much", "does more", "no", or "cannot tell".

        It shows the rise where its score is significantly above the unpruned model's. It does not do as much where
        the pruned model is significantly above it, as in `above`, and does more where that is below it. Several
        responders are as good as the best of them. Default is the floor.
        """
        before, after = self._point(model, task, 0), self._point(model, task, pct)
        words = []
        for responder in responders or (None,):
            side = self._side(model, task, pct, responder)
            way = difference(before[:2], self._floor_and_error(task, responder))
            (sign,) = self.rule.signs([Effect(*way)])
            shows = UNSURE if not sign else answer_of((sign > 0) == (after[0] > before[0]))
            words.append(NO if side > 0 else control(shows, MORE if side < 0 else AS_MUCH))
        return next(word for word in (MORE, AS_MUCH, UNSURE, NO) if word in words)

    def _side(self, model, task, pct, responder) -> int:
        """1 where a published score is significantly above a responder's, -1 where it is below, else 0."""
        models = BASE if model in BASE else (model,)
        family = [(one, at) for one in models for at in PCTS] if pct else [(model, 0)]
        family = [at for at in family if (LLAMA[at[0]], task, at[1]) in self._tested or at == (model, pct)]
        effects = [self.over_floor(one, task, at, responder) for one, at in family]
        return self.rule.signs(effects)[family.index((model, pct))]

    def _floor_and_error(self, task, responder=None) -> tuple[float, float]:
        """A responder's score and its error: what a die scores is known, what a text scores on a sample is not."""
        if responder in (None, "reading"):
            kinds = self.floor_kinds if responder is None else (responder,)
            known = [self._floors[kind][task] for kind in kinds if task in self._floors[kind]]
            if not known:
                raise NoEvidence(f"no floor of {task}")
            return (max if TASKS[task].higher_is_better else min)(known)
        return self._of_responder(task, responder)

    @once
    def _of_responder(self, task, responder) -> tuple[float, float]:
        rows = where(self.floor_table, task=task, responder=responder, metric=TASKS[task].metric)
        value = only(rows, f"{task} of {responder}")
        n, official = only(rows, f"{task} of {responder}", "n"), TASKS[task].items or 0
        sampled = responder != "uniform" and n < official
        return value, float(np.sqrt(value * (1 - value) * (1 / n - 1 / official))) if sampled else 0.0

    # Computed once.

    @cached_property
    def _floors(self) -> dict[str, dict[str, tuple[float, float]]]:
        """By kind and task: the floor and its standard error."""
        found = {kind: floors_and_errors(self.floor_table, kind) for kind in ("blind", "reading")}
        return found | {"on all prompts": floors_and_errors(self.floor_table, held_out=False)}

    @cached_property
    def _tested(self) -> dict:
        rows = against_unpruned(headline(self.capabilities))
        points = rows[["value", "binomial_se", "items"]].astype(float).itertuples(index=False, name=None)
        return dict(
            zip(zip(rows["model"], rows["task"], rows["pruning_pct"], strict=True), points, strict=True)
        )

    @cached_property
    def _values(self) -> dict:
        return self.capabilities.set_index(["model", "task", "metric", "pruning_pct"])["value"].to_dict()

    def _point(self, model, task, pct, metric=None) -> tuple[float, float, float]:
        """A published score, its binomial standard error, and the official number of items."""
        if (LLAMA[model], task, pct) not in self._tested:
            raise NoEvidence(f"no single value for {task} of {model} at {pct}%")
        value, error, n = self._tested[LLAMA[model], task, pct]
        if metric is None:
            return value, error, n
        value = self.value(model, task, pct, metric)
        return value, float(np.sqrt(value * (1 - value) / n)), n

    def _gap(self, task, pct) -> tuple[float, float, float]:
        """Published score of 1B-Instruct less that of 1B, its error, and the items."""
        base, tuned = (self._point(model, task, pct) for model in ("1B", "1B-Instruct"))
        return *difference(base[:2], tuned[:2]), tuned[2]
