"""Evidence: what the rules of the claim ledger may ask, each a named function over the tables.

A rule is an expression such as ``change("1B", "ifeval", 40)``; `widthprune.audit.ledger` evaluates it. Published
numbers answer to short model names, measured ones to the names of `widthprune.load_model`.
"""

from functools import cached_property

import numpy as np
import pandas as pd

from ..efficiency.analysis import change_pct, decompose, summarize
from ..errors import WidthPruneError
from ..published import published
from ..results import one_sweep
from ..sizes import kept_size
from ..tasks import TASKS, headline
from .association import associations
from .floors import headline_floors
from .proportions import against_unpruned

LLAMA = {"1B": "Llama-3.2-1B", "3B": "Llama-3.2-3B", "1B-Instruct": "Llama-3.2-1B-Instruct"}
PLAIN = {
    f.__name__: f for f in (abs, all, any, len, max, min, range, round, sorted, sum, zip, bool, float, set)
}


class NoEvidence(WidthPruneError):
    """A rule asks for a number that no table holds."""


class Evidence:
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

    def names(self) -> dict:
        """What an expression may use: the methods below, and Python's own arithmetic of collections."""
        own = (
            "value",
            "change",
            "kept",
            "floor",
            "p_change",
            "error",
            "pair",
            "criterion",
            "criteria",
            "gap",
        )
        own += (
            "energy",
            "tokens",
            "ttlt",
            "per_token",
            "throughput",
            "throughput_sd",
            "joules",
            "joules_true",
        )
        own += (
            "workloads",
            "parameters_follow",
            "neurons",
            "measured",
            "measured_change",
            "falls",
            "rises",
            "beats",
            "step",
        )
        return (
            {name: getattr(self, name) for name in own} | PLAIN | {"log": np.log, "PCTS": range(10, 70, 10)}
        )

    # Published benchmarks.

    def value(self, model: str, task: str, pct: float, metric: str | None = None) -> float:
        """A published score."""
        rows = _where(self.capabilities, model=LLAMA[model], task=task, pruning_pct=pct)
        return _only(rows[rows["metric"] == (metric or TASKS[task].metric)], f"{task} of {model} at {pct}%")

    def change(self, model: str, task: str, pct: float) -> float:
        """Change of a published score from the unpruned model's, in %."""
        return 100 * (self.value(model, task, pct) / self.value(model, task, 0) - 1)

    def kept(self, model: str, task: str, pct: float) -> float:
        """What is left, in %, of the unpruned model's distance from the floor."""
        floor = self.floor(task)
        return 100 * (self.value(model, task, pct) - floor) / (self.value(model, task, 0) - floor)

    def gap(self, task: str, pct: float) -> float:
        """Published score of 1B-Instruct less that of 1B."""
        return self.value("1B-Instruct", task, pct) - self.value("1B", task, pct)

    def floor(self, task: str, responder: str | None = None) -> float:
        """Score of an uninformed responder: the headline floor, or a named one."""
        if responder is None:
            if task not in self._headline_floors:
                raise NoEvidence(f"no floor of {task}")
            return self._headline_floors[task]
        rows = _where(self.floor_table, task=task, responder=responder)
        return _only(rows[rows["metric"] == TASKS[task].metric], f"{task} of {responder}")

    def p_change(self, model: str, task: str, pct: float) -> float:
        """p of two proportions, the published score against the unpruned one, for the official number of items."""
        rows = _where(self._tested, model=LLAMA[model], task=task, pruning_pct=pct)
        return _only(rows, f"{task} of {model} at {pct}%", "p")

    def error(self, model: str, task: str, pct: float) -> float:
        """Binomial standard error of a published score, for the official number of items."""
        rows = _where(self._tested, model=LLAMA[model], task=task, pruning_pct=pct)
        return _only(rows, f"{task} of {model} at {pct}%", "binomial_se")

    def pair(self, model: str, knowledge: str, behaviour: str, column: str = "r") -> float:
        """A column of `widthprune.audit.association.associations` on the published table."""
        rows = _where(self._pairs, model=LLAMA[model], knowledge=knowledge, behaviour=behaviour)
        return _only(rows, f"{knowledge} and {behaviour} of {model}", column)

    # Published criteria and shapes.

    def criterion(self, version: str, name: str, task: str) -> float:
        """A published score of Llama-3.2-1B at 10% under a criterion; "none" is the unpruned model."""
        rows = _where(self.criteria_table, paper_version=version, criterion=name, task=task)
        return _only(rows, f"{task} under {name} in {version}")

    def criteria(self, version: str) -> set:
        """Names of the criteria in a version's table."""
        return set(_where(self.criteria_table, paper_version=version)["criterion"])

    def neurons(self, model: str, pct: float) -> int:
        """Neurons left in each layer."""
        rows = _where(self.shapes, model=LLAMA[model], pruning_pct=pct)
        return int(_only(rows, f"{model} at {pct}%", "intermediate_size_after"))

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

    # Published energy and latency: changes in %, by workload such as "mmlu_latency_b1".

    def energy(self, model: str, workload: str, pct: float) -> float:
        """Change of energy per token."""
        return self._efficiency(model, workload, pct, "energy")

    def ttlt(self, model: str, workload: str, pct: float) -> float:
        """Change of the time to the last token."""
        return self._efficiency(model, workload, pct, "ttlt")

    def tokens(self, model: str, workload: str, pct: float) -> float:
        """Change of the number of tokens generated."""
        return self._efficiency(model, workload, pct, "tokens")

    def throughput(self, model: str, workload: str, pct: float) -> float:
        """Change of tokens per second."""
        return self._efficiency(model, workload, pct, "throughput")

    def throughput_sd(self, model: str, workload: str, pct: float) -> float:
        """Standard deviation of that over seeds, in % of the unpruned value, both runs' taken together."""
        rows = _where(self._summary, model=LLAMA[model], workload=workload)
        rows = rows[rows["pruning_pct"].isin([0, pct])]
        whole = rows.loc[rows["pruning_pct"] == 0, "throughput_tok_s"].iloc[0]
        return float(100 * np.hypot.reduce(rows["throughput_tok_s_sd"]) / whole)

    def per_token(self, model: str, workload: str, pct: float) -> float:
        """Change of the time to the last token divided by tokens generated; single requests only."""
        rows = _where(decompose(self._summary), model=LLAMA[model], workload=workload, pruning_pct=pct)
        return 100 * (_only(rows, f"{workload} of {model} at {pct}%", "time_per_token_factor") - 1)

    def joules(self, model: str, workload: str, pct: float) -> float:
        """Joules per token as printed."""
        return self._efficiency(model, workload, pct, "j_per_token_printed")

    def joules_true(self, model: str, workload: str, pct: float) -> float:
        """Joules per token from the energy that the same runs recorded."""
        return self._efficiency(model, workload, pct, "j_per_token")

    def workloads(self, batch_size: int) -> list[str]:
        """Names of the published workloads with this batch size."""
        return sorted(_where(self._summary, batch_size=batch_size)["workload"].unique())

    # Measured here, with ``chat_template=True`` from prompts in the chat template.

    def measured(
        self,
        model: str,
        task: str,
        criterion: str,
        pct: float,
        metric: str | None = None,
        *,
        chat_template: bool = False,
    ) -> float:
        """A measured number, the mean over draws where neurons were random; criterion "none" at 0%."""
        rows = self._one_kind(model, task, [criterion], pct, chat_template)
        return float(_measured(rows, model, task, criterion, pct, metric)["value"].mean())

    def measured_change(
        self,
        model: str,
        task: str,
        criterion: str,
        pct: float,
        metric: str | None = None,
        *,
        beside=(),
        chat_template: bool = False,
    ) -> tuple[float, float]:
        """Measured difference from the unpruned model on the same items, and its standard error.

        With further criteria in ``beside``, on the items on which these were measured too.
        """
        rows = self._one_kind(model, task, [criterion, *beside], pct, chat_template)
        after = _measured(rows, model, task, criterion, pct, metric)
        before = _measured(rows, model, task, "none", 0, metric).iloc[0]
        spread = np.sqrt((after["stderr"] ** 2).mean() / len(after) + before["stderr"] ** 2)
        if len(after) > 1:
            # Draws of random neurons differ by more than their items' error.
            spread = np.hypot(spread, after["value"].std() / np.sqrt(len(after)))
        return float(after["value"].mean() - before["value"]), float(spread)

    def falls(self, model: str, task: str, criterion: str, pct: float, **prompts) -> bool:
        """Whether a measured score is worse than the unpruned one by two standard errors."""
        return self._moved(model, task, criterion, pct, **prompts) < -2

    def rises(self, model: str, task: str, criterion: str, pct: float, **prompts) -> bool:
        """Whether a measured score is better than the unpruned one by two standard errors."""
        return self._moved(model, task, criterion, pct, **prompts) > 2

    def beats(self, model: str, task: str, criterion: str, other: str, pct: float) -> bool:
        """Whether one criterion's measured score is better than another's by two standard errors."""
        one = self.measured_change(model, task, criterion, pct, beside=[other])
        return _better_by(task, one, self.measured_change(model, task, other, pct, beside=[criterion])) > 2

    def step(self, model: str, task: str, criterion: str, pct: float) -> float:
        """Standard errors by which a measured score is better than that at ten percentage points less."""
        if pct == 10:
            return self._moved(model, task, criterion, pct)
        after = self.measured_change(model, task, criterion, pct)
        return _better_by(task, after, self.measured_change(model, task, criterion, pct - 10))

    def _moved(self, model, task, criterion, pct, **prompts):
        return _better_by(task, self.measured_change(model, task, criterion, pct, **prompts), (0.0, 0.0))

    def _one_kind(self, model, task, criteria, pct, chat_template):
        """Runs on the same items, of those that measured the most of one criterion, or of several at ``pct``."""
        rows = _where(self.measured_table, model=model, task=task)
        rows = rows[rows["chat_template"] == chat_template]
        rows = rows[rows["criterion"].isin(["none", *criteria])]
        if len(criteria) > 1:
            rows = rows[rows["pruning_pct"].isin([0, pct])]
        return one_sweep(rows)

    # Computed once.

    @cached_property
    def _headline_floors(self) -> pd.Series:
        return headline_floors(self.floor_table)

    @cached_property
    def _pairs(self) -> pd.DataFrame:
        return associations(self.capabilities, self._headline_floors)

    @cached_property
    def _tested(self) -> pd.DataFrame:
        return against_unpruned(headline(self.capabilities))

    @cached_property
    def _summary(self) -> pd.DataFrame:
        table = summarize(self.runs)
        table["energy"] = change_pct(table, "j_per_token_printed")
        table["ttlt"] = change_pct(table, "ttlt_ms")
        table["tokens"] = change_pct(table, "new_tokens")
        table["throughput"] = change_pct(table, "throughput_tok_s")
        return table

    def _efficiency(self, model, workload, pct, column):
        rows = _where(self._summary, model=LLAMA[model], workload=workload)
        return _only(_where(rows, pruning_pct=pct), f"{workload} of {model} at {pct}%", column)


def _measured(rows: pd.DataFrame, model, task, criterion, pct, metric) -> pd.DataFrame:
    metric = metric or TASKS[task].metric
    found = _where(rows, criterion=criterion, pruning_pct=pct, metric=metric)
    if found.empty:
        raise NoEvidence(f"not measured: {metric} of {task} on {model} at {pct:g}% {criterion}")
    return found


def _better_by(task: str, one: tuple[float, float], other: tuple[float, float]) -> float:
    """Standard errors by which one (change, its error) is better than another."""
    difference = (one[0] - other[0]) * (1 if TASKS[task].higher_is_better else -1)
    return difference / float(np.hypot(one[1], other[1]))


def _where(rows: pd.DataFrame, **equal) -> pd.DataFrame:
    for column, wanted in equal.items():
        rows = rows[rows[column] == wanted]
    return rows


def _only(rows: pd.DataFrame, what: str, column: str = "value") -> float:
    if len(rows) != 1 or pd.isna(rows[column].iloc[0]):
        raise NoEvidence(f"no single {column} for {what}")
    return float(rows[column].iloc[0])
