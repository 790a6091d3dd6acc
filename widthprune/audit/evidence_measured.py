"""What rules may ask of the models measured here: effects of pruning over the same items, and at which widths.

A model counts at the widths at which it still works, that is, at which its perplexity is significantly lower than word
frequencies alone would have: on WikiText, and where that was not measured on our prose. Whether a broken model scores
higher or lower says nothing. A model that lacks a measurement counts neither for a claim nor against.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from ..report.results import SAME_KIND, one_sweep
from ..report.stats import difference, over_draws, paired_stderr
from ..report.tasks import TASKS
from .effects import Effect
from .lookup import NoEvidence, NotMeasured, once

# Not LAMBADA: of a last word that its passage gives away, word frequencies have a perplexity that broken models pass.
TEXTS = ("wikitext", "pocket_prose")
UNPAIRED = (np.nan, np.nan, np.nan)


class MeasuredEvidence:
    """The part of `widthprune.audit.evidence.Evidence` that reads ``self.measured_table``.

    Each function takes the name of a model, a task, and criteria; prompts are in the chat template only where
    ``chat_template=True`` asks for it. What was looked at is kept in ``self.seen``.
    """

    def models(self) -> list[str]:
        """Trained models of which some pruned score was measured, and that were not left out."""
        return [name for name in self._trained() if name != self.without]

    @once
    def _trained(self) -> list[str]:
        table = self.measured_table
        names = sorted(table.loc[table["pruning_pct"] > 0, "model"].unique())
        return [name for name in names if not name.startswith("random-")]

    def measured(self, model, task, criterion, pct, metric=None, *, chat_template=False) -> float:
        """A measured number, the mean over draws where neurons were random; criterion "none" at 0%."""
        cells = self._same_items(model, task, [criterion], [0, pct], chat_template)
        return self._score(cells, model, task, criterion, pct, metric)[0]

    def shift(self, model, task, criterion, pct, metric=None, *, chat_template=False) -> Effect:
        """The effect of pruning by a criterion, whether or not the model still works."""
        cells = self._same_items(model, task, [criterion], [0, pct], chat_template)
        before = self._score(cells, model, task, "none", 0, metric)
        after = self._score(cells, model, task, criterion, pct, metric)
        return self._effect(model, task, before, after, f"{criterion} at {pct:g}%", chat_template, metric)

    def path(self, model, task, criterion="PPM", metric=None, *, chat_template=False) -> list[Effect]:
        """`shift` at every width at which the task was measured and the model still works."""
        return _where_known(
            lambda pct: self.shift(model, task, criterion, pct, metric, chat_template=chat_template),
            self.widths(model, criterion),
            _no_width(model, task, criterion),
        )

    def better(self, model, task, one, other, pct, *, chat_template=False) -> Effect:
        """`compared`, where one of the two models at least still works, on a text that both were measured on."""
        seen = [t for t in TEXTS if all(pct in self._seen_at(model, t, name) for name in (one, other))]
        if not seen:
            raise NotMeasured(f"{one} and {other} not compared with word frequencies on one text at {pct:g}%")
        if not any(self._works(model, name, pct, seen[0]) for name in (one, other)):
            raise NoEvidence(
                f"not shown to be better than word frequencies at {pct:g}% under {one} and {other}"
            )
        return self.compared(model, task, one, other, pct, chat_template=chat_template)

    def compared(self, model, task, one, other, pct, *, chat_template=False) -> Effect:
        """How much better one criterion's model is than another's, whether or not either still works."""
        cells = self._same_items(model, task, [one, other], [0, pct], chat_template)
        scores = [self._score(cells, model, task, name, pct) for name in (other, one)]
        # Each was paired with the unpruned model, and not with the other.
        scores = [(*score[:3], UNPAIRED) for score in scores]
        return self._effect(model, task, *scores, f"{one} against {other} at {pct:g}%", chat_template)

    def rivals(self, model, task, one, other, *, chat_template=False) -> list[Effect]:
        """`better` at every width at which both were measured and one at least still works."""
        return _where_known(
            lambda pct: self.better(model, task, one, other, pct, chat_template=chat_template),
            sorted([*self.widths(model, one), *self.broken(model, one)]),
            f"{model}: {one} and {other} were not compared on {TASKS[task].label}",
        )

    def steps(self, model, task, criterion="PPM") -> list[Effect]:
        """The effect of each further step of pruning that was measured, from the unpruned model on, while the model works."""
        found, last = [], 0
        for pct in self.widths(model, criterion):
            cells = self._same_items(model, task, [criterion], [last, pct], False)
            if (criterion, pct, TASKS[task].metric) not in cells:
                continue
            before = self._score(cells, model, task, criterion if last else "none", last)
            after = (*self._score(cells, model, task, criterion, pct)[:3], UNPAIRED)
            found.append(
                self._effect(model, task, before, after, f"{criterion} from {last:g} to {pct:g}%", False)
            )
            last = pct
        if not found:
            raise NoEvidence(_no_width(model, task, criterion))
        return found

    def starts_above(self, model, task) -> bool:
        """Whether the unpruned model is better than the floor by two standard errors, and has something to lose."""
        cells = self._same_items(model, task, [], [0], False)
        return self._better_than_floor(task, self._score(cells, model, task, "none", 0))

    def knowledge(self, model, *criteria) -> str:
        """A benchmark of knowledge on which the model has something to lose: MMLU, or else the pocket facts.

        Measured under PPM and the further criteria, at widths at which the model still works.
        """
        for task in self.measured_on(model, "mmlu", "pocket_facts", criteria=criteria):
            if self.starts_above(model, task):
                return task
        raise NoEvidence(f"{model} has no knowledge above the floor to lose, at a width at which it works")

    def truthfulness(self, model, *criteria) -> str:
        """MC2 of TruthfulQA where it was measured so, or else of the pocket misconceptions."""
        return self.measured_on(model, "truthfulqa_mc2", "pocket_misconceptions_mc2", criteria=criteria)[0]

    def instructions(self, model, *criteria) -> str:
        """IFEval where it was measured so, or else the pocket instructions."""
        return self.measured_on(model, "ifeval", "pocket_instructions", criteria=criteria)[0]

    def widths(self, model, criterion="PPM") -> list[float]:
        """Percentages of neurons removed at which the model still works."""
        return self._states(model, criterion)[0]

    def broken(self, model, criterion="PPM") -> list[float]:
        """Percentages at which it is not shown to be better than word frequencies."""
        return self._states(model, criterion)[1]

    def damage(self, model, criterion="PPM") -> str:
        """In words, at which widths the model is still better than word frequencies."""
        works, broken = (
            ", ".join(f"{pct:g}" for pct in at)
            for at in (self.widths(model, criterion), self.broken(model, criterion))
        )
        if not works and not broken:
            return "not compared with word frequencies"
        if not works:
            return f"not shown to be better than word frequencies at {broken}%"
        return f"better than word frequencies at {works}%" + (f", not at {broken}%" if broken else "")

    def measured_on(self, model, *tasks, criteria=()) -> list[str]:
        """Those of the tasks that were measured under PPM and the criteria where the model works; at least one."""
        names = ("PPM", *criteria)
        found = [
            task
            for task in tasks
            if all(set(self._seen_at(model, task, name)) & set(self.widths(model, name)) for name in names)
        ]
        if not found:
            labels = " or ".join(TASKS[task].label for task in tasks)
            raise NotMeasured(
                f"{model} was not measured on {labels} under {' and '.join(names)} while it works"
            )
        return found

    def _states(self, model, criterion) -> tuple[list[float], list[float]]:
        key = (model, criterion, self.rule.sigmas, self.floor_kinds)
        if key not in self._working:
            # The first text that was measured at a width decides.
            decides = {pct: text for text in TEXTS[::-1] for pct in self._seen_at(model, text, criterion)}
            states = {pct: self._works(model, criterion, pct, decides[pct]) for pct in sorted(decides)}
            self._working[key] = tuple(
                [pct for pct, works in states.items() if works is way] for way in (True, False)
            )
        return self._working[key]

    def _works(self, model, criterion, pct, text) -> bool:
        cells = self._same_items(model, text, [criterion], [pct], False)
        return self._better_than_floor(text, self._score(cells, model, text, criterion, pct))

    def _better_than_floor(self, task, score) -> bool:
        """Whether a measured score is better than the floor by more than both errors."""
        log = not TASKS[task].higher_is_better
        z = difference(self._floor_and_error(task), score[:2], log=log).z
        return bool((-z if log else z) > self.rule.sigmas)

    def _effect(self, model, task, before, after, what, chat_template, metric=None) -> Effect:
        headline = metric in (None, TASKS[task].metric)
        log = headline and not TASKS[task].higher_is_better
        (x, dx, *_), (y, dy, n, (flips, stderr, p)) = before, after
        paired = stderr if np.isnan(flips) else paired_stderr(y - x, flips, n)
        paired = paired if headline and not log else np.nan
        change, stderr = difference((x, dx), (y, dy), log=log, paired=paired)
        self.seen.append((model, task, what, int(n), chat_template, not np.isnan(paired)))
        label = f"{TASKS[task].label} of {model}, {what}"
        p = p if headline and not log else np.nan
        return Effect(-change if log else change, stderr, np.log(x) if log else x, n, label, p)

    def _score(self, cells, model, task, criterion, pct, metric=None) -> tuple[float, float, float, tuple]:
        """Value, standard error, items, and what pairs it with the unpruned model; over draws, their mean.

        That is the share of items that flipped, the standard error of the mean change, and McNemar's exact p, each
        NaN where the answers were not kept.
        """
        metric = metric or TASKS[task].metric
        if (criterion, pct, metric) not in cells:
            raise NotMeasured(f"not measured: {metric} of {task} on {model} at {pct:g}% {criterion}")
        x, errors, n = np.array(cells[criterion, pct, metric], float).T
        if np.isnan(errors).all() and ((x >= 0) & (x <= 1)).all():
            # A mean of numbers between 0 and 1 has at most a proportion's error.
            errors = np.sqrt(x * (1 - x) / n)
        log = metric == TASKS[task].metric and not TASKS[task].higher_is_better
        value, stderr = over_draws(x, errors, log=log)
        kept = (cells.get((criterion, pct, name), []) for name in ("flip_rate", "change_stderr", "mcnemar_p"))
        kept = tuple(float(rows[0][0]) if len(rows) == len(x) == 1 else np.nan for rows in kept)
        return value, stderr, float(n.min()), kept

    def _same_items(self, model, task, criteria: Sequence[str], pcts, chat_template) -> dict[tuple, list]:
        """Numbers by criterion, percentage and metric, of runs on the same items: those that measured the most.

        Runs are compared with the unpruned model and under these criteria and percentages; mostly there is one kind.
        """
        rows, whole = self._runs.get((model, task, chat_template), (None, {}))
        if rows is None:
            return whole
        key = (model, task, *criteria, *pcts, chat_template)
        if key not in self._kinds:
            asked = rows["criterion"].isin(["none", *criteria]) & rows["pruning_pct"].isin(pcts)
            self._kinds[key] = _cells(one_sweep(rows[asked]))
        return self._kinds[key]

    @once
    def _seen_at(self, model, task, criterion) -> list[float]:
        """Percentages at which a task was measured without template."""
        rows, whole = self._runs.get((model, task, False), (None, {}))
        cells = whole if rows is None else _cells(rows)
        return sorted(
            {pct for name, pct, metric in cells if (name, metric) == (criterion, TASKS[task].metric)}
        )

    @cached_property
    def _runs(self) -> dict:
        """By model, task and template: all its rows where they are of several kinds, else its numbers."""
        table = self.measured_table
        kind = table.groupby(list(SAME_KIND), dropna=False).ngroup()
        groups = table.groupby(["model", "task", "chat_template"])
        return {
            key: (rows, {}) if kind[rows.index].nunique() > 1 else (None, _cells(rows))
            for key, rows in groups
        }


def _cells(rows: pd.DataFrame) -> dict[tuple, list]:
    """(value, standard error, items) of each draw, by criterion, percentage and metric."""
    found = {}
    columns = (rows[name] for name in ("criterion", "pruning_pct", "metric", "value", "stderr", "n"))
    for criterion, pct, metric, value, stderr, n in zip(*columns, strict=True):
        number = (value, np.nan if pd.isna(stderr) else stderr, np.nan if pd.isna(n) else n)
        found.setdefault((criterion, pct, metric), []).append(number)
    return found


def _where_known(ask: Callable[[float], Effect], pcts: Iterable[float], otherwise: str) -> list[Effect]:
    """The effects at those percentages at which there is one; at least one."""
    found = []
    for pct in pcts:
        with contextlib.suppress(NoEvidence):
            found.append(ask(pct))
    if not found:
        raise NoEvidence(otherwise)
    return found


def _no_width(model: str, task: str, criterion: str) -> str:
    return f"{model} under {criterion}: no width with {TASKS[task].label} and a working model"
