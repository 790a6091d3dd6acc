"""Energy and latency of the published runs: by hand, then every number the chapter states."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from widthprune import WidthPruneError, published
from widthprune.efficiency.analysis import (
    alignment_changes,
    carbon_intensity,
    change_pct,
    decompose,
    split_measured,
    split_published,
    summarize,
)
from widthprune.report.results import load_profiles


def run(**changes):
    row = dict(
        model="m", workload="w_latency_b1", batch_size=1, pruning_pct=0.0, new_tokens=100, ttlt_ms=1000.0,
        throughput_tok_s=50.0, tracker_stop_raw=4e-4, tracker_stop_net=1e-4, energy_kwh_cpu_gpu_ram=1e-3,
    )  # fmt: skip
    return row | changes


@pytest.fixture(scope="module")
def summary():
    return summarize(published("efficiency_runs"))


def at(summary, model, workload, pct):
    rows = summary[
        (summary["model"] == model) & (summary["workload"] == workload) & (summary["pruning_pct"] == pct)
    ]
    (row,) = rows.index
    return row


def test_joules_by_hand():
    (row,) = summarize(pd.DataFrame([run()])).to_dict("records")
    # 1e-4 "kWh" over 100 tokens is 3.6 J each; 0.4 kg/kWh makes it 9 J.
    assert row["j_per_token_printed"] == pytest.approx(3.6)
    assert row["j_per_token"] == pytest.approx(9.0)
    assert row["ms_per_token"] == 20


def test_decomposition_by_hand():
    runs = pd.DataFrame([run(), run(pruning_pct=50.0, new_tokens=300, ttlt_ms=2400.0)])
    parts = decompose(summarize(runs)).set_index("pruning_pct")
    assert parts.loc[50, ["ttlt_factor", "tokens_factor", "time_per_token_factor"]].tolist() == pytest.approx(
        [2.4, 3.0, 0.8]
    )


def test_the_tracker_returned_emissions():
    assert carbon_intensity(published("efficiency_runs")) == pytest.approx(0.3492, abs=5e-5)


def test_printed_joules_per_token_are_those_of_the_paper(summary):
    runs = published("efficiency_runs")
    printed = runs.groupby(["model", "workload", "batch_size", "pruning_pct"])[
        "joules_per_token_published"
    ].mean()
    np.testing.assert_allclose(
        summary.set_index(["model", "workload", "batch_size", "pruning_pct"])["j_per_token_printed"], printed
    )


def test_throughput_is_that_of_the_counted_tokens_and_times():
    """The 1B runs hold every term: tokens, mean time of a request or batch, and how many were timed."""
    runs = published("efficiency_runs").query("model == 'Llama-3.2-1B'")
    time_ms = runs["ttlt_ms"].fillna(runs["batch_time_ms"])
    timed = runs["measured_prompts"] / runs["batch_size"]
    assert len(runs) == 7 * 6 * 3
    np.testing.assert_allclose(
        1000 * runs["new_tokens"] / (timed * time_ms), runs["throughput_tok_s"], rtol=1e-12
    )


def test_energy_per_token_falls_by_23_percent(summary):
    row = at(summary, "Llama-3.2-1B", "mmlu_latency_b1", 60)
    assert change_pct(summary, "j_per_token_printed")[row] == pytest.approx(-23.2, abs=0.05)


def test_single_request_time_grows_by_18_percent(summary):
    row = at(summary, "Llama-3.2-1B", "mmlu_latency_b1", 60)
    assert round(change_pct(summary, "ttlt_ms")[row]) == 18


def test_the_growth_is_tokens_and_not_speed(summary):
    parts = decompose(summary[summary["model"] == "Llama-3.2-1B"])
    last = parts[parts["pruning_pct"] == 60].set_index("workload")
    assert last["ttlt_factor"].round(1).to_dict() == {
        "hellaswag_latency_b1": 3.7, "ifeval_latency_b1": 2.1, "mmlu_latency_b1": 1.2
    }  # fmt: skip
    assert last["time_per_token_factor"].between(0.95, 1.01).all()


def test_first_token_and_steps_add_up_to_the_published_time(summary):
    parts = split_published(summary)
    assert len(parts) == 2 * 7 * 3
    assert (abs(parts["sum_ms"] / parts["ttlt_ms"] - 1) < 0.02).all()
    # Two numbers explain three workloads at each width, and neither follows the width.
    once = parts.drop_duplicates(["model", "pruning_pct"]).groupby("model")["ms_per_token"]
    assert (once.max() / once.min() < 1.02).all()


def test_the_split_by_hand():
    runs = [
        run(workload=name, ttlt_ms=30.0 + 10 * (n - 1), throughput_tok_s=1000 * n / (30.0 + 10 * (n - 1)))
        for name, n in (("a_latency_b1", 5), ("b_latency_b1", 50), ("c_latency_b1", 100))
    ]
    parts = split_published(summarize(pd.DataFrame(runs)))
    np.testing.assert_allclose(parts["tokens"], [5, 50, 100])
    np.testing.assert_allclose(parts[["first_token_ms", "ms_per_token"]], [[30, 10]] * 3)


def test_3b_energies_are_not_corrected(summary):
    assert summary.groupby("model")["j_per_token"].count().to_dict() == {
        "Llama-3.2-1B": 42,
        "Llama-3.2-3B": 0,
    }


def test_runs_that_disagree_on_the_factor():
    with pytest.raises(WidthPruneError, match="disagree on kg CO2eq per kWh: 0.4000 to 0.8000"):
        carbon_intensity(pd.DataFrame([run(), run(tracker_stop_raw=8e-4)]))


def test_no_run_with_both():
    with pytest.raises(WidthPruneError, match="no run recorded emissions and energy"):
        carbon_intensity(pd.DataFrame([run(energy_kwh_cpu_gpu_ram=np.nan)]))


def test_an_answer_of_one_token_has_no_further_time():
    names = ["steps_mean", "ttft_ms_mean", "ttlt_ms_mean", "ms_per_token_mean"]
    shared = dict(
        device="cpu", model="m", weights="trained", multiple_of=1, task="w", protocol="free", batch_size=1
    )
    rows = [
        shared | dict(pruning_pct=0.0, seed=seed, metric=name, value=value)
        for seed, values in enumerate([(1.0, 50.0, 50.0), (11.0, 50.0, 150.0, 10.0)])
        for name, value in zip(names, values, strict=False)
    ]
    (parts,) = split_measured(pd.DataFrame(rows)).to_dict("records")
    assert parts["tokens"] == 6 and parts["sum_ms"] == parts["ttlt_ms"] == 100


@pytest.fixture(scope="module")
def stored():
    return load_profiles(Path(__file__).parent.parent / "results")


def test_every_stored_profile_adds_up_by_the_wall_clock(stored):
    parts = split_measured(stored)
    assert {"smollm2-135m-instruct", "gemma3-270m", "Llama-3.2-1B"} <= set(parts["model"])
    assert (abs(parts["sum_ms"] / parts["ttlt_ms"] - 1) < 0.02).all()
    # Three seeds each, and under the fixed protocol the same tokens at every width.
    assert (stored.groupby(["model", "task", "protocol"])["seed"].nunique() == 3).all()
    fixed = stored.query("protocol == 'fixed' and metric == 'new_tokens'")
    assert (fixed.groupby(["model", "task", "limit", "max_new_tokens"])["value"].nunique() == 1).all()


def test_trained_and_random_weights_took_the_same_time(stored):
    """What lets a shape stand for a model: the same width, prompts and machine, only the weights differ."""
    same = stored.query(
        "model == 'smollm2-135m-instruct' and task == 'generated_latency_b1' and metric == 'ms_per_token_p50'"
    )
    times = same.pivot_table(index="pruning_pct", columns="weights", values="value", aggfunc="median")
    assert len(times) == 2
    np.testing.assert_allclose(times["random"], times["trained"], rtol=0.1)


def test_rounding_is_compared_with_the_exact_size_of_the_same_seed():
    times = {(1, 42): 10.0, (64, 42): 11.0, (1, 123): 20.0, (64, 123): 26.0}
    rows = [
        {"device": "cpu", "model": "m", "weights": "trained", "task": "mmlu_latency_b1", "protocol": "fixed",
         "pruning_pct": 10.0, "metric": "ms_per_token_p50", "multiple_of": multiple, "seed": seed, "value": ms}
        for (multiple, seed), ms in times.items()
    ]  # fmt: skip
    (row,) = alignment_changes(pd.DataFrame(rows)).to_dict("records")
    assert row["multiple_of"] == 64
    assert row["change_pct"] == pytest.approx(20) and row["stderr"] == pytest.approx(10)
    # Without an exact size, or with no rounded one, there is nothing to compare.
    assert alignment_changes(pd.DataFrame(rows[1::2])).empty
    assert alignment_changes(pd.DataFrame(rows[::2])).empty
