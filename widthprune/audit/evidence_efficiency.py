"""What rules may ask of the published energy and latency: changes in %, by workload such as "mmlu_latency_b1"."""

from functools import cached_property

import numpy as np
import pandas as pd
from scipy.stats import t

from ..efficiency.analysis import change_pct, summarize
from ..report.tasks import workload_words
from .effects import Effect
from .lookup import LLAMA, NoEvidence, once, where


class EfficiencyEvidence:
    """The part of `widthprune.audit.evidence.Evidence` that reads the released runs, ``self.runs``."""

    def energy(self, model: str, workload: str, pct: float) -> float:
        """Change of energy per token."""
        return self._efficiency(model, workload, pct, "energy")

    def ttlt(self, model: str, workload: str, pct: float) -> float:
        """Change of the time to the last token."""
        return self._efficiency(model, workload, pct, "ttlt")

    def tokens(self, model: str, workload: str, pct: float) -> float:
        """Change of the number of tokens generated."""
        return self._efficiency(model, workload, pct, "tokens")

    @once
    def over_seeds(self, model: str, workload: str, pct: float, what: str) -> Effect:
        """The relative effect of pruning on "energy", "ttlt", "tokens", "throughput" or time "per_token".

        A seed draws the prompts, so runs of one seed are paired. Three seeds say little of one width's error, which is
        taken from all widths of the model and workload together; p is Student's, with their degrees of freedom.
        """
        seeds = self._seeds[what].loc[LLAMA[model], workload]
        changes = seeds.drop(columns=0).sub(seeds[0], axis=0) / seeds[0].mean()
        n, widths = changes.shape
        change, stderr = float(changes[pct].mean()), float(np.sqrt(changes.var().mean() / n))
        p = float(2 * t.sf(abs(change) / stderr, (n - 1) * widths)) if stderr > 0 else np.nan
        return Effect(
            change,
            stderr,
            1.0,
            n,
            f"{what} of {model}, {workload_words(workload)} at {pct:g}%",
            p,
            unit="seeds",
        )

    def joules(self, model: str, workload: str, pct: float) -> float:
        """Joules per token as printed."""
        return self._efficiency(model, workload, pct, "j_per_token_printed")

    def joules_true(self, model: str, workload: str, pct: float) -> float:
        """Joules per token from the energy that the same runs recorded."""
        return self._efficiency(model, workload, pct, "j_per_token")

    @once
    def workloads(self, batch_size: int) -> list[str]:
        """Names of the published workloads with this batch size."""
        return sorted(where(self._summary, batch_size=batch_size)["workload"].unique())

    @cached_property
    def _summary(self) -> pd.DataFrame:
        table = summarize(self.runs)
        table["energy"] = change_pct(table, "j_per_token_printed")
        table["ttlt"] = change_pct(table, "ttlt_ms")
        table["tokens"] = change_pct(table, "new_tokens")
        return table

    @cached_property
    def _seeds(self) -> dict[str, pd.DataFrame]:
        """What was measured, with a row a model, workload and seed, and a column a percentage."""
        runs = self.runs
        columns = {
            "energy": runs["tracker_stop_net"] / runs["new_tokens"],
            "ttlt": runs["ttlt_ms"],
            "tokens": runs["new_tokens"],
            "throughput": runs["throughput_tok_s"],
            "per_token": runs["ttlt_ms"] / runs["new_tokens"],
        }
        keys = dict(index=["model", "workload", "seed"], columns="pruning_pct", values="x")
        return {what: runs.assign(x=x).pivot(**keys) for what, x in columns.items()}

    def _efficiency(self, model, workload, pct, column):
        row = self._workloads.get((LLAMA[model], workload, pct), {})
        if pd.isna(row.get(column)):
            raise NoEvidence(f"no single {column} for {workload} of {model} at {pct}%")
        return float(row[column])

    @cached_property
    def _workloads(self) -> dict:
        return self._summary.set_index(["model", "workload", "pruning_pct"]).to_dict("index")
