"""Evaluation: the numbers, resuming, and what is refused before anything runs."""

import contextlib
import json
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, tiny_model
from families import byte_tokenizer
from pandas.testing import assert_frame_equal
from processes import start
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from widthprune import WidthPruneError, load_results
from widthprune.calibration import Calibration
from widthprune.criteria import GLOBAL
from widthprune.evaluation import evaluate as evaluate_module
from widthprune.evaluation import pruned_models
from widthprune.evaluation.evaluate import evaluate, evaluate_points
from widthprune.evaluation.grid import Point, grid
from widthprune.evaluation.readiness import check_variants
from widthprune.evaluation.settings import Settings
from widthprune.report.results import one_sweep, stored_sweeps
from widthprune.report.stats import relative_change
from widthprune.report.tables import origin
from widthprune.report.tasks import headline

FOUR = ["pocket_prose", "pocket_facts", "pocket_misconceptions_mc1", "pocket_misconceptions_mc2"]
QUICK = dict(limit=4, pruning_pcts=[0, 50])


def test_a_sweep_is_measured_written_and_read_back(language_model, tmp_path):
    table = evaluate(language_model, "pocket", results_dir=tmp_path, **QUICK)
    shown = headline(table)
    assert len(shown) == 14 and (shown["n"] == 4).all()
    assert shown["intermediate_size"].unique().tolist() == [88, 44]
    # Off the end of a float: the perplexity of a last word that a random model never expects.
    assert (
        np.isfinite(shown[shown["metric"] != "perplexity"]["value"]).all() and shown["commit"].notna().all()
    )
    whole = load_results(tmp_path)
    assert sorted(whole["value"]) == sorted(table["value"])


def test_a_random_model_knows_nothing(language_model, tmp_path):
    table = evaluate(language_model, ["pocket_facts"], pruning_pcts=[0], results_dir=tmp_path)
    (row,) = headline(table).to_dict("records")
    assert abs(row["value"] - 0.25) < 4 * row["stderr"]


def test_an_interrupted_sweep_goes_on_and_repeats_nothing(language_model, tmp_path, monkeypatch):
    measure, calls = evaluate_module.measure, []

    def stops_at_the_third(lm, benchmark, *settings):
        calls.append(benchmark.task)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(lm, benchmark, *settings)

    monkeypatch.setattr(evaluate_module, "measure", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        evaluate(language_model, FOUR, results_dir=tmp_path, **QUICK)
    assert len(list(tmp_path.rglob("*.json"))) == 2
    table = evaluate(language_model, FOUR, results_dir=tmp_path, **QUICK)
    assert len(calls) == 3 + 6
    again = evaluate(language_model, FOUR, results_dir=tmp_path, **QUICK)
    assert len(calls) == 9
    pd.testing.assert_frame_equal(table, again)


def test_another_setting_is_another_result(language_model, tmp_path):
    for change in ({}, {"limit": 5}, {"seed": 1}, {"dtype": "bfloat16"}, {"max_length": 512}):
        evaluate(language_model, ["pocket_facts"], results_dir=tmp_path, **(QUICK | change))
    evaluate(language_model, ["pocket_facts"], results_dir=tmp_path, **(QUICK | {"dtype": torch.bfloat16}))
    assert len(list(tmp_path.rglob("*.json"))) == 10


def test_prompts_in_a_chat_template_are_another_result(language_model, chat_model, tmp_path, monkeypatch):
    options = dict(results_dir=tmp_path / "results", **QUICK)
    with pytest.raises(WidthPruneError, match="no chat template: leave out --chat-template"):
        evaluate(language_model, ["pocket_facts"], chat_template=True, **options)
    assert not (tmp_path / "results").exists()

    prompts = []

    def generate_nothing(self, requests, disable_tqdm=False):
        prompts.extend(request.args[0] for request in requests)
        return [""] * len(requests)

    monkeypatch.setattr("widthprune.evaluation.engine.choice.difference", lambda *args, **options: "")
    monkeypatch.setattr("widthprune.evaluation.engine.prefix_lm.PrefixLM.generate_until", generate_nothing)
    for chat in (False, True):
        table = evaluate(chat_model, ["pocket_instructions"], chat_template=chat, **options)
        assert (table["chat_template"] == chat).all()
    plain, template = prompts[: len(prompts) // 2], prompts[len(prompts) // 2 :]
    assert template == [f"<s>[user]{prompt}[answer]" for prompt in plain] and len(plain) == 8
    assert ", chat template, limit 4" in origin(table)
    # The two are never one sweep, and neither is compared with the other's unpruned model.
    both = load_results(tmp_path / "results")
    assert ", with and without chat template" in origin(both)
    for chat in (False, True):
        found = stored_sweeps(tmp_path / "results", both["model"], both["task"], chat_template=chat)
        assert (found["chat_template"] == chat).all() and len(found) == len(both) / 2
    assert not one_sweep(both)["chat_template"].any()
    assert len(relative_change(both)) == len(both)


def test_the_engine_is_recorded_and_stock_is_another_result(language_model, tmp_path, capsys):
    options = dict(limit=4, pruning_pcts=[50], results_dir=tmp_path)
    ours, stock = (
        evaluate(language_model, ["pocket_facts"], backend=name, **options) for name in ("hf", "stock")
    )
    np.testing.assert_allclose(stock["value"], ours["value"], rtol=1e-5)
    runs = [json.loads(path.read_text()) for path in tmp_path.rglob("*.json")]
    found = sorted((run["settings"].get("backend", ""), run["provenance"]["engine"]) for run in runs)
    assert found == [("", "prefix")] * 2 + [("stock", "stock")] * 2
    assert "lm-eval's own class" not in capsys.readouterr().err


def test_a_model_that_needs_lm_evals_own_class_is_measured_with_it(language_model, tmp_path, capsys):
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model = tiny_model(vocab_size=300, max_position_embeddings=2048, rope_parameters=dynamic)
    model.save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(language_model).save_pretrained(tmp_path / "model")
    options = dict(limit=4, pruning_pcts=[0, 50], results_dir=tmp_path / "results")
    evaluate(str(tmp_path / "model"), ["pocket_facts", "pocket_prose"], **options)
    said = [line for line in capsys.readouterr().err.splitlines() if "lm-eval's own class" in line]
    assert len(said) == 1 and said[0].endswith("depend on the length of a text (dynamic)")
    runs = [json.loads(path.read_text()) for path in (tmp_path / "results").rglob("*.json")]
    assert [(run["settings"].get("backend"), run["provenance"]["engine"]) for run in runs] == [
        (None, "stock")
    ] * 4


@pytest.mark.parametrize("backend", ["hf", "stock"])
def test_an_answer_without_a_token_names_task_and_item(backend, language_model, tmp_path, monkeypatch):
    monkeypatch.setattr("lm_eval.api.model.TemplateLM._encode_pair", lambda *pair: ([5], []))
    options = dict(limit=4, pruning_pcts=[0], results_dir=tmp_path, backend=backend)
    table = evaluate(language_model, ["pocket_misconceptions_mc1", "pocket_prose"], **options)
    assert set(table["task"]) == {"pocket_prose"}
    reason = table.attrs["missing"]["pocket_misconceptions_mc1"]
    assert "pocket_misconceptions_mc1: item" in reason and "no token of its own" in reason


def test_missing_data_is_reported_and_the_rest_measured(language_model, tmp_path, monkeypatch):
    data = tmp_path / "data"
    (data / "boolq").mkdir(parents=True)
    item = {"question": "is it", "passage": "It is.", "idx": 0, "label": 1}
    (data / "boolq" / "validation.jsonl").write_text(json.dumps(item) + "\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WIDTHPRUNE_DATA", "~/data")  # as a shell leaves it within quotes
    table = evaluate(language_model, ["boolq", "gsm8k"], pruning_pcts=[0], results_dir=tmp_path / "r")
    assert set(table["task"]) == {"boolq"}
    assert table.attrs["missing"] == {"gsm8k": "no file gsm8k/test.jsonl under WIDTHPRUNE_DATA"}


def test_a_hub_that_is_not_there_leaves_its_tasks_missing(language_model, tmp_path, monkeypatch):
    monkeypatch.delenv("WIDTHPRUNE_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def unreachable(self, names):
        raise ConnectionError("offline")

    monkeypatch.setattr("lm_eval.tasks.TaskManager.load", unreachable)
    table = evaluate(language_model, ["boolq"], pruning_pcts=[0, 50], results_dir=tmp_path)
    assert table.empty and list(table.attrs["missing"]) == ["boolq"]
    assert "cannot be had from the hub (offline)" in table.attrs["missing"]["boolq"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(limit=0), "limit must be a whole number of at least 1, got 0"),
        (dict(pruning_pcts=[120]), r"pruning_pcts must be in \[0, 100\), got 120"),
        (
            dict(expansion_ratios=[5]),
            r"expansion_ratio must be in \(0, 2.7500\], the model's own ratio, got 5",
        ),
        (
            dict(criteria=["best"]),
            "criterion must be one of PPM, MAW, L2, VOW, PON, PPM-REVERSED, PPM-GATE, PPM-UP, RANDOM, ACT, .*, got 'best'",
        ),
        (dict(tasks="exam"), r"tasks must be suites .* got exam"),
    ],
)
def test_bad_input_measures_nothing(language_model, tmp_path, options, message):
    with pytest.raises(WidthPruneError, match=message):
        evaluate(language_model, results_dir=tmp_path / "results", **options)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("family", "more", "criterion", "message"),
    [
        ("qwen2", {}, "FLAP-BIAS", "no mlp_bias to declare one: use FLAP"),
        ("mixtral", dict(num_local_experts=4), "PPM-ACT", "experts"),
        ("llama", {}, "PPM-ACT", "at most the model.s 64 positions"),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_model_that_a_criterion_cannot_make_is_refused_before_anything_is_measured(
    family, more, criterion, message, dry_run, tmp_path
):
    byte_tokenizer().save_pretrained(tmp_path / "model")
    config = AutoConfig.for_model(family, **SMALL | more | dict(vocab_size=300))
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    asked = dict(pruning_pcts=[50], criteria=["PPM", criterion], limit=2, dry_run=dry_run)
    with pytest.raises(WidthPruneError, match=message) as caught:
        evaluate(str(tmp_path / "model"), "pocket_facts", results_dir=tmp_path / "results", **asked)
    assert str(caught.value).startswith(f"{tmp_path / 'model'}: ") and "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("family", "more", "criterion", "message"),
    [
        (
            "mixtral",
            dict(num_local_experts=4),
            "PPM",
            "experts share a size, and global widths need MLPs without",
        ),
        ("llama", {}, "PPM-REVERSED", "those of PPM-REVERSED are below zero: choose another criterion"),
        ("qwen2", {}, "FLAP-BIAS", "no mlp_bias to declare one: use FLAP"),
    ],
)
def test_a_model_whose_layers_cannot_compete_is_refused(family, more, criterion, message, tmp_path):
    byte_tokenizer().save_pretrained(tmp_path)
    AutoConfig.for_model(family, **SMALL | more | dict(vocab_size=300)).save_pretrained(tmp_path)
    points = [Point(name + GLOBAL, 50.0, 44, 1.375) for name in ("L2", criterion)]
    with pytest.raises(WidthPruneError, match=f"^{tmp_path}: .*{message}"):
        check_variants(str(tmp_path), points, Calibration())


def test_draws_of_random_neurons_see_the_same_items(language_model, tmp_path):
    options = dict(limit=8, pruning_pcts=[50], criteria=["RANDOM", "PPM"], results_dir=tmp_path)
    first = evaluate(language_model, ["pocket_prose"], **options)
    table = headline(evaluate(language_model, ["pocket_prose"], neuron_seeds=[0, 1, 2], **options))
    drawn = table[table["criterion"] == "RANDOM"]
    assert drawn["neuron_seed"].tolist() == [0, 1, 2] and drawn["value"].nunique() == 3
    assert (table["seed"] == 0).all() and table[table["criterion"] != "RANDOM"]["neuron_seed"].isna().all()
    # The draw that the sweep's own seed gives is found, not made again.
    assert len(first) == 3 and len(load_results(tmp_path)) == 5


def test_vllm_is_refused_where_it_is_absent_and_fed_where_it_is_there(language_model, tmp_path, monkeypatch):
    with pytest.raises(WidthPruneError, match="backend must be hf, stock or vllm, got 'tpu'"):
        evaluate(language_model, backend="tpu")
    with pytest.raises(WidthPruneError, match="backend vllm needs the package vllm: pip install vllm"):
        evaluate(language_model, backend="vllm", results_dir=tmp_path)

    from widthprune.evaluation.engine.prefix_lm import PrefixLM

    read = []

    def stand_in(pretrained, dtype, batch_size, max_model_len):
        read.append((dtype, batch_size, max_model_len))
        options = dict(dtype=dtype, max_length=max_model_len, softmax_dtype="float32", device="cpu")
        return PrefixLM(pretrained=pretrained, **options)

    monkeypatch.setattr("widthprune.evaluation.settings.find_spec", lambda name: name)
    monkeypatch.setattr("lm_eval.api.registry.get_model", lambda name: {"vllm": stand_in}[name])
    options = dict(limit=4, pruning_pcts=[50], results_dir=tmp_path)
    through = evaluate(language_model, ["pocket_prose"], backend="vllm", max_length=64, **options)
    assert read == [("auto", "auto", 64)] * 2
    plain = evaluate(language_model, ["pocket_prose"], max_length=64, **options)
    # Two settings, two results; the saved model is the pruned one.
    assert len(load_results(tmp_path)) == 4
    np.testing.assert_allclose(through["value"], plain["value"], rtol=1e-5)


def test_calibration_is_part_of_a_calibrated_result_and_of_no_other(language_model, tmp_path):
    options = dict(tasks=["pocket_facts"], pruning_pcts=[50], limit=2, results_dir=tmp_path)

    def files(criterion, text):
        before = set(tmp_path.rglob("*.json"))
        calibration = text and Calibration([text])
        evaluate(language_model, criteria=[criterion], calibration=calibration, **options)
        return [json.loads(path.read_text()) for path in set(tmp_path.rglob("*.json")) - before]

    free = files("PPM", None)
    assert len(free) == 2 and all("calibration" not in str(run["settings"]) for run in free)
    assert files("PPM", "another text") == []
    (first,) = files("ACT", "the question and the answer")
    assert first["settings"] | Calibration(["the question and the answer"]).identity() == first["settings"]
    (second,) = files("ACT", "another text")
    assert second["settings"]["calibration"] != first["settings"]["calibration"]
    assert files("ACT", "another text") == []


def test_global_widths_are_results_of_their_own(language_model, tmp_path):
    options = dict(tasks=["pocket_facts"], pruning_pcts=[0, 50], limit=2, results_dir=tmp_path)
    evaluate(language_model, **options)
    table = evaluate(language_model, criteria=["PPM", "FLAP-BIAS"], global_widths=True, **options)
    assert table["criterion"].unique().tolist() == ["none", "PPM-GLOBAL", "FLAP-BIAS-GLOBAL"]
    assert table["intermediate_size"].unique().tolist() == [88, 44]
    assert len(list(tmp_path.rglob("*.json"))) == 4


def test_a_sweep_needs_at_most_half_again_the_memory_of_one_model(language_model, tmp_path):
    # Most of this model is neurons: a second copy of them would go beyond the limit.
    big = tiny_model(
        hidden_size=512,
        intermediate_size=6144,
        num_hidden_layers=6,
        vocab_size=300,
        max_position_embeddings=512,
    )
    big.to(torch.bfloat16).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(language_model).save_pretrained(tmp_path / "model")

    def peak(*pcts):
        words = ["evaluate", tmp_path / "model", "--tasks", "pocket_facts", "--limit", "1"]
        words += ["--compute-dtype", "float32", "--results-dir", tmp_path / "-".join(pcts)]
        work, seen = start([*map(str, words), "--pruning-pcts", *pcts], tmp_path / "stderr"), []
        while work.is_alive():
            with contextlib.suppress(OSError):  # it has just ended
                status = Path(f"/proc/{work.pid}/status").read_text()
                # Weights that are mapped from their file are no memory that a process needs.
                seen += [1024 * int(kib) for kib in re.findall(r"RssAnon:\s+(\d+)", status)]
            time.sleep(0.002)
        assert work.exitcode == 0, (tmp_path / "stderr").read_text()[-1000:]
        return max(seen)

    half = big.get_memory_footprint(return_buffers=False)  # in float32 it takes twice as many
    assert peak("0", "5", "10", "15") < peak("0") + half


def test_one_narrow_model_is_in_memory_at_a_time(language_model, tmp_path, one_at_a_time):
    one_at_a_time(pruned_models, "prune_model")
    options = dict(pruning_pcts=[20, 40], criteria=["PPM", "AMP"], limit=2, results_dir=tmp_path)
    evaluate(language_model, ["pocket_facts"], **options)


def test_a_sweep_that_narrows_one_copy_measures_what_each_width_alone_does(language_model, tmp_path):
    tasks, criteria = ["pocket_prose"], ["RANDOM", "PPM"]
    options = dict(limit=3, criteria=criteria, neuron_seeds=[0, 1])
    whole = evaluate(
        language_model, tasks, pruning_pcts=[10, 30, 60], results_dir=tmp_path / "whole", **options
    )
    for pct in (10, 30, 60):
        alone = evaluate(
            language_model, tasks, pruning_pcts=[pct], results_dir=tmp_path / f"{pct}", **options
        )
        same = whole[whole["pruning_pct"].isin([0, pct])]
        assert same["value"].tolist() == alone["value"].tolist()


def test_points_in_any_order_give_the_same_numbers(language_model, tmp_path):
    points = grid(88, 32, pruning_pcts=[20, 40], criteria=["PPM", "MAW"])
    mixed = [points[i] for i in (2, 0, 4, 1, 3)]
    in_order, table = (
        evaluate_points(
            language_model, ["pocket_facts"], each, Settings(limit=3), results_dir=str(tmp_path / name)
        )
        for name, each in {"a": points, "b": mixed}.items()
    )
    keys = ["criterion", "pruning_pct", "metric"]
    assert_frame_equal(*(t.sort_values(keys, ignore_index=True)[[*keys, "value"]] for t in (in_order, table)))


def test_a_model_that_cannot_be_made_ends_the_sweep(language_model, tmp_path, monkeypatch):
    """It is no fault of the benchmark, whose other widths would be left out."""

    def refuse(*args, **options):
        raise WidthPruneError("scores are not finite")

    monkeypatch.setattr("widthprune.evaluation.pruned_models.score_model", refuse)
    with pytest.raises(WidthPruneError, match="not finite"):
        evaluate(language_model, ["pocket_facts"], pruning_pcts=[20], limit=2, results_dir=tmp_path)
    assert [path.name[:9] for path in tmp_path.rglob("*.json")] == ["none-0pct"]
