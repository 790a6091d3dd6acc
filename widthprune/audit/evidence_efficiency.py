"""What rules may ask of the published energy and latency: changes in %, by workload such as "mmlu_latency_b1"."""

from functools import cached_property

import numpy as np
import pandas as pd

from ..efficiency.analysis import change_pct, decompose, summarize
from .lookup import LLAMA, NoEvidence, only, where


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

    def throughput(self, model: str, workload: str, pct: float) -> float:
        """Change of tokens per second."""
        return self._efficiency(model, workload, pct, "throughput")

    def throughput_sd(self, model: str, workload: str, pct: float) -> float:
        """Standard deviation of that over seeds, in % of the unpruned value, both runs' taken together."""
        rows = where(self._summary, model=LLAMA[model], workload=workload)
        rows = rows[rows["pruning_pct"].isin([0, pct])]
        whole = rows.loc[rows["pruning_pct"] == 0, "throughput_tok_s"].iloc[0]
        return float(100 * np.hypot.reduce(rows["throughput_tok_s_sd"]) / whole)

    def per_token(self, model: str, workload: str, pct: float) -> float:
        """Change of the time to the last token divided by tokens generated; single requests only."""
        rows = where(decompose(self._summary), model=LLAMA[model], workload=workload, pruning_pct=pct)
        return 100 * (only(rows, f"{workload} of {model} at {pct}%", "time_per_token_factor") - 1)

    def joules(self, model: str, workload: str, pct: float) -> float:
        """Joules per token as printed."""
        return self._efficiency(model, workload, pct, "j_per_token_printed")

    def joules_true(self, model: str, workload: str, pct: float) -> float:
        """Joules per token from the energy that the same runs recorded."""
        return self._efficiency(model, workload, pct, "j_per_token")

    def workloads(self, batch_size: int) -> list[str]:
        """Names of the published workloads with this batch size."""
        return sorted(where(self._summary, batch_size=batch_size)["workload"].unique())

    @cached_property
    def _summary(self) -> pd.DataFrame:
        table = summarize(self.runs)
        table["energy"] = change_pct(table, "j_per_token_printed")
        table["ttlt"] = change_pct(table, "ttlt_ms")
        table["tokens"] = change_pct(table, "new_tokens")
        table["throughput"] = change_pct(table, "throughput_tok_s")
        return table

    def _efficiency(self, model, workload, pct, column):
        row = self._workloads.get((LLAMA[model], workload, pct), {})
        if pd.isna(row.get(column)):
            raise NoEvidence(f"no single {column} for {workload} of {model} at {pct}%")
        return float(row[column])

    @cached_property
    def _workloads(self) -> dict:
        return self._summary.set_index(["model", "workload", "pruning_pct"]).to_dict("index")
