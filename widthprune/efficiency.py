"""Energy and latency of the published runs: totals per seed in, tables with units out.

Three things about those runs (energies, units, lengths) decide what can be concluded:

- ``tracker_stop_*`` is what codecarbon's ``stop()`` returned, emissions in kg CO2eq. The paper used
  it as kWh. `carbon_intensity` finds the factor between the two from the runs that recorded both.
- ``ttlt_ms``, time to the last token, was called time to first token in the paper's v1.
- A request ran to the end-of-sequence token or the limit, so its time depends on how much a model
  says. `decompose` separates that from how fast it says it.
"""

import numpy as np
import pandas as pd

from .errors import WidthPruneError

JOULES_PER_KWH = 3.6e6
KEYS = ["model", "workload", "batch_size", "pruning_pct"]


def carbon_intensity(runs: pd.DataFrame) -> float:
    """kg CO2eq per kWh that the tracker used, from the runs that recorded both quantities.

    Raises
    ------
    WidthPruneError
        If no run recorded both, or the runs disagree by more than one part in a million.
    """
    both = runs.dropna(subset=["energy_kwh_cpu_gpu_ram"])
    ratio = both["tracker_stop_raw"] / both["energy_kwh_cpu_gpu_ram"]
    if ratio.empty:
        raise WidthPruneError("no run recorded emissions and energy, so the factor between them is unknown")
    if np.ptp(ratio) > 1e-6 * ratio.mean():
        raise WidthPruneError(
            f"the runs disagree on kg CO2eq per kWh: {ratio.min():.4f} to {ratio.max():.4f}"
        )
    return float(ratio.mean())


def summarize(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds of each model, workload and pruning percentage.

    Returns
    -------
    DataFrame
        ``j_per_token_printed`` as in the paper, kg CO2eq read as kWh; ``j_per_token`` the same net
        of idle but in true joules, empty for a model whose runs did not record what is needed;
        ``ttlt_ms`` (batch 1 only), ``throughput_tok_s``, ``new_tokens`` per run,
        ``ms_per_token`` (batch 1 only), and ``*_sd`` over seeds of the first, the third and the fourth.
    """
    runs = runs.assign(
        j_per_token_printed=runs["tracker_stop_net"] * JOULES_PER_KWH / runs["new_tokens"],
        ms_per_token=1000 / runs["throughput_tok_s"].where(runs["batch_size"] == 1),
    )
    # A grid's intensity is known for a model only if its own runs recorded it.
    known = runs.groupby("model")["energy_kwh_cpu_gpu_ram"].transform(lambda kwh: kwh.notna().any())
    factor = carbon_intensity(runs) if known.any() else np.nan
    runs["j_per_token"] = (runs["j_per_token_printed"] / factor).where(known)
    columns = [
        "j_per_token_printed",
        "j_per_token",
        "ttlt_ms",
        "throughput_tok_s",
        "new_tokens",
        "ms_per_token",
    ]
    by = runs.groupby(KEYS)
    spread = by[["j_per_token_printed", "ttlt_ms", "throughput_tok_s"]].std().add_suffix("_sd")
    return by[columns].mean().join(spread).reset_index()


def change_pct(summary: pd.DataFrame, column: str) -> pd.Series:
    """Change of a column from the unpruned model of the same workload, in %, row by row."""
    unpruned = summary[summary["pruning_pct"] == 0].set_index(["model", "workload"])[column]
    rows = pd.MultiIndex.from_frame(summary[["model", "workload"]])
    return 100 * (summary[column] / unpruned.reindex(rows).to_numpy() - 1)


def decompose(summary: pd.DataFrame) -> pd.DataFrame:
    """What makes a request slower: more tokens, or more time for each.

    Returns
    -------
    DataFrame
        Batch 1 rows with three factors against the unpruned model: ``ttlt_factor`` is
        ``tokens_factor`` times ``time_per_token_factor``, exactly, where the last is time to last
        token over tokens generated (so it holds the reading of the prompt too).
    """
    rows = summary[summary["batch_size"] == 1].copy()
    rows["ttlt_factor"] = 1 + change_pct(rows, "ttlt_ms") / 100
    rows["tokens_factor"] = 1 + change_pct(rows, "new_tokens") / 100
    rows["time_per_token_factor"] = rows["ttlt_factor"] / rows["tokens_factor"]
    factors = ["ttlt_factor", "tokens_factor", "time_per_token_factor"]
    return rows[[*KEYS, *factors]].reset_index(drop=True)
