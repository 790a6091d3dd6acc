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

from ..errors import WidthPruneError

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
        ``ms_per_token`` (batch 1 only).
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
    return runs.groupby(KEYS)[columns].mean().reset_index()


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


def split_published(summary: pd.DataFrame) -> pd.DataFrame:
    """TTLT = first token + (tokens - 1) x time per token, for the published single requests.

    The runs did not record the first token, so both times are estimated: for each model and pruning
    percentage, least squares of relative error over its three workloads, whose answers differ in
    length. Prompts differ in length too, so the first token is that of a middling prompt.

    Returns
    -------
    DataFrame
        ``KEYS`` with ``tokens`` per request, ``first_token_ms``, ``ms_per_token``, their sum ``sum_ms``
        and the measured ``ttlt_ms``.
    """
    rows = summary[summary["batch_size"] == 1].copy()
    # Tokens per request: the runs hold tokens per run, and for 3B not the number of requests.
    rows["tokens"] = rows["ttlt_ms"] * rows["throughput_tok_s"] / 1000
    for _, of_width in rows.groupby(["model", "pruning_pct"]):
        terms = np.column_stack([np.ones(len(of_width)), of_width["tokens"] - 1])
        relative = terms / of_width["ttlt_ms"].to_numpy()[:, None]
        found = np.linalg.lstsq(relative, np.ones(len(of_width)), rcond=None)[0]
        rows.loc[of_width.index, ["first_token_ms", "ms_per_token"]] = found
    rows["sum_ms"] = rows["first_token_ms"] + (rows["tokens"] - 1) * rows["ms_per_token"]
    columns = ["tokens", "first_token_ms", "ms_per_token", "sum_ms", "ttlt_ms"]
    return rows[[*KEYS, *columns]].reset_index(drop=True)


def split_measured(profiles: pd.DataFrame) -> pd.DataFrame:
    """The same of profiles (`widthprune.report.results.load_profiles`), where each term has its own clock.

    A row per device, model, weights, multiple, workload, protocol and percentage, means over seeds. For a batch
    ``tokens`` counts its steps, so that ``ttlt_ms`` is the time until its last answer has ended.
    """
    names = {"task": "workload"}
    by = ["model", "weights", "multiple_of", "workload", "protocol", "batch_size", "pruning_pct", "device"]
    wide = profiles.rename(columns=names).pivot_table(index=[*by, "seed"], columns="metric", values="value")
    rows = pd.DataFrame(
        {
            "tokens": wide["steps_mean"],
            "first_token_ms": wide["ttft_ms_mean"],
            "ms_per_token": wide["ms_per_token_mean"],
            "ttlt_ms": wide["ttlt_ms_mean"],
        }
    )
    # A seed whose answers all had one token has no time per further token.
    rest = ((rows["tokens"] - 1) * rows["ms_per_token"]).where(rows["tokens"] > 1, 0.0)
    rows["sum_ms"] = rows["first_token_ms"] + rest
    return rows.groupby(by).mean().reset_index()


def alignment_changes(profiles: pd.DataFrame) -> pd.DataFrame:
    """What rounding kept sizes up does to time per token, against the exact size at the same percentage.

    ``profiles`` is a table of `widthprune.report.results.load_profiles`. A row per device, model, weights,
    workload, percentage and ``multiple_of`` above 1, under the fixed protocol: ``change_pct``, the mean
    over seeds of the change of the median time per token, and ``stderr``, its standard error over them.
    """
    asked = (profiles["protocol"] == "fixed") & (profiles["metric"] == "ms_per_token_p50")
    rows = profiles[asked & (profiles["pruning_pct"] > 0)]
    by = ["device", "model", "weights", "task", "pruning_pct"]
    wide = rows.pivot_table(index=[*by, "seed"], columns="multiple_of", values="value")
    if 1 not in wide:
        return pd.DataFrame(columns=[*by, "multiple_of", "change_pct", "stderr"])
    change = 100 * (wide.drop(columns=1).div(wide[1], axis=0) - 1).stack().dropna().rename("change_pct")
    grouped = change.groupby([*by, "multiple_of"])
    return pd.DataFrame({"change_pct": grouped.mean(), "stderr": grouped.sem()}).reset_index()
