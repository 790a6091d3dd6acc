"""Profiles: times that add up, one file a run, resumed; random weights do the work of trained ones."""

import pytest
import torch

from widthprune import WidthPruneError, load_model, load_results
from widthprune.__main__ import main
from widthprune.architectures import random_model
from widthprune.efficiency import profiling
from widthprune.efficiency.generation_timing import TimedBatch, time_batch
from widthprune.efficiency.profiling import (
    _aligned,
    profile_model,
    profile_prompts,
    time_metrics,
)
from widthprune.evaluation import pruned_models
from widthprune.report.results import load_profiles

SMALL = dict(prompts=4, max_new_tokens=6, pruning_pcts=[40], energy=False)
GENERATED = ["generated_latency_b1", "generated_throughput_b8"]


@pytest.fixture(scope="module")
def profile(language_model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("profiles")
    return profile_model(language_model, GENERATED, results_dir=str(directory), **SMALL), directory


def test_time_metrics_by_hand():
    batches = [TimedBatch(1.0, (0.5, 0.5), 2.0, ((1, 2, 3),)), TimedBatch(3.0, (), 3.0, ((4,),))]
    values = {row["metric"]: row["value"] for row in time_metrics(batches)}
    assert values["ttft_ms_mean"] == 2000 and values["ttlt_ms_p50"] == 2500
    assert values["ms_per_token_mean"] == 500 and values["steps_mean"] == 2
    assert values["new_tokens"] == 4 and values["throughput_tok_s"] == pytest.approx(0.8)


def test_first_token_and_steps_add_up_to_the_last_token(llama):
    for protocol in ("free", "fixed"):
        for rows in (1, 8):
            timed = [time_batch(llama, [[i, 2, 3]] * rows, 40, protocol=protocol, eos=[7]) for i in range(10)]
            left_out = [1 - (batch.first_token_s + sum(batch.step_s)) / batch.last_token_s for batch in timed]
            # Time that no part counts is missing from every batch; other work disturbs one or another.
            assert 0 <= min(left_out) < 0.02


def test_means_add_up_to_the_mean_of_the_last_token():
    """Answers of different lengths: the mean of the steps is over tokens, not over batches."""
    steps = [tuple(range(1, length + 1)) for length in (1, 4, 9)]
    timed = [TimedBatch(2.0, times, 2.0 + sum(times), ((1,) * (1 + len(times)),)) for times in steps]
    values = {row["metric"]: row["value"] for row in time_metrics(timed)}
    parts = values["ttft_ms_mean"] + (values["steps_mean"] - 1) * values["ms_per_token_mean"]
    assert parts == pytest.approx(values["ttlt_ms_mean"], rel=1e-12)


def test_a_fixed_profile_counts_the_same_tokens_at_every_width(profile):
    rows = profile[0].query("metric == 'new_tokens' and protocol == 'fixed'")
    assert set(rows["value"]) == {24.0} and set(rows["pruning_pct"]) == {0, 40}


def test_profiles_resume_and_stay_out_of_the_benchmarks(profile, language_model):
    table, directory = profile
    times = {path: path.stat().st_mtime_ns for path in directory.rglob("*.json")}
    again = profile_model(language_model, GENERATED, results_dir=str(directory), **SMALL)
    assert again.equals(table) and len(times) == 24
    assert times == {path: path.stat().st_mtime_ns for path in directory.rglob("*.json")}
    assert len(load_results(directory)) == 0 and len(load_profiles(directory)) == len(table)


def test_a_dtype_and_its_name_are_one_setting(language_model, tmp_path):
    least = SMALL | dict(workloads=GENERATED[:1], prompts=1, max_new_tokens=2, pruning_pcts=[0])
    tables = [
        profile_model(language_model, results_dir=str(tmp_path), dtype=dtype, **least)
        for dtype in ("float32", torch.float32)
    ]
    assert tables[0].equals(tables[1])


def test_random_weights_do_the_same_work_as_trained_ones(language_model):
    trained, _ = load_model(language_model)
    with torch.no_grad():  # as far from a random start as a training could take it
        for parameter in trained.parameters():
            parameter.mul_(3).round_(decimals=1)
    values = []
    for model in (trained, random_model(trained.config)):
        metrics, _ = profile_prompts(model, [[1, 2, 3]] * 3, 1, 50, "fixed")
        values.append({row["metric"]: row["value"] for row in metrics})
    assert values[0]["new_tokens"] == values[1]["new_tokens"] == 150
    assert values[0]["model_size_gib"] == values[1]["model_size_gib"]
    # The quickest steps, which other work on the machine disturbs least.
    assert 0.5 < values[0]["ms_per_token_p5"] / values[1]["ms_per_token_p5"] < 2


@pytest.mark.parametrize("home", [pruned_models, profiling])
def test_one_narrow_model_is_in_memory_at_a_time(home, language_model, tmp_path, one_at_a_time):
    one_at_a_time(home, "prune_model" if home is pruned_models else "random_model")
    options = SMALL | dict(pruning_pcts=[20, 40], random_weights=home is profiling)
    profile_model(language_model, GENERATED[:1], results_dir=str(tmp_path), **options)


def test_sizes_are_aligned_upwards():
    found = _aligned(8192, 2048, [40], "PPM", [1, 8, 64, 128])
    assert [(p.intermediate_size, m) for p, m in found] == [
        (8192, 1), (4916, 1), (4920, 8), (4928, 64), (4992, 128)
    ]  # fmt: skip


def test_the_command_line(language_model, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("WIDTHPRUNE_DATA", raising=False)
    options = ["--pruning-pcts", "20", "--prompts", "2", "--max-new-tokens", "3", "--seeds", "1"]
    options += ["--workloads", GENERATED[0], "--no-energy", "--results-dir", str(tmp_path)]
    assert main(["profile", language_model, *options]) == 0
    assert "ttlt_ms_p50" in capsys.readouterr().out
    assert main(["profile", language_model, *options, "--protocols", "slow"]) == 2
    assert "argument --protocols: invalid choice: 'slow'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"criterion": "ACT"}, "criterion must be one of PPM, .*, RANDOM, got 'ACT'"),
        ({"criterion": "SUM"}, "criterion must be one of PPM, .*, RANDOM, got 'SUM'"),
        ({"prompts": 0}, "prompts must be a whole number of at least 1, got 0"),
        ({"workloads": ["poems_b1"]}, "workload must be one of hellaswag_latency_b1"),
        ({"idle_s": 0}, "idle_s must be a number of seconds above 0, got 0"),
    ],
)
def test_bad_input(changes, message, language_model, tmp_path):
    with pytest.raises(WidthPruneError, match=message):
        profile_model(language_model, results_dir=str(tmp_path), **changes)
    assert list(tmp_path.iterdir()) == []
