"""Floors come out of lm-eval's own scorers; simple ones are known beforehand."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from widthprune import WidthPruneError
from widthprune.__main__ import main
from widthprune.audit.floors import (
    CHOSEN_ANSWERS,
    FLOOR_NAMES,
    KINDS,
    NULL_RESPONDERS,
    compute_floors,
    floor_lines,
    floors_and_errors,
    headline_floors,
    load_floors,
    score_texts,
)
from widthprune.evaluation.suites import POCKET, find_benchmarks
from widthprune.report.tasks import SUITES


@pytest.fixture(scope="module")
def pocket():
    return compute_floors("pocket")


def of(table, task, responder, metric="acc"):
    rows = table[(table["task"] == task) & (table["responder"] == responder) & (table["metric"] == metric)]
    return rows["value"].item()


def lines(name):
    return [json.loads(line) for line in (POCKET / "data" / name).read_text(encoding="utf-8").splitlines()]


def test_a_fair_die_and_every_constant_answer_of_a_balanced_task(pocket):
    assert of(pocket, "pocket_facts", "uniform") == pytest.approx(0.25)
    # The generator puts the right answer into each position equally often.
    assert [of(pocket, "pocket_facts", f"always {k}") for k in (1, 2, 3, 4)] == [0.25] * 4


def test_the_longest_answer_by_hand(pocket):
    right = [
        int(np.argmax([len(choice) for choice in item["choices"]])) == item["answer"]
        for item in lines("facts.jsonl")
    ]
    assert of(pocket, "pocket_facts", "longest") == pytest.approx(np.mean(right))


def test_uniform_mc2_is_the_share_of_true_answers_and_mc1_that_of_the_best(pocket):
    items = lines("misconceptions.jsonl")
    assert of(pocket, "pocket_misconceptions_mc2", "uniform") == pytest.approx(
        np.mean([np.mean(item["labels"]) for item in items])
    )
    best = [1 / (1 + item["labels"].count(0)) for item in items]
    assert of(pocket, "pocket_misconceptions_mc1", "uniform") == pytest.approx(np.mean(best))


def test_equal_log_likelihoods_score_what_the_die_does_in_mc2(pocket, tmp_path):
    (benchmark,) = find_benchmarks(["pocket_misconceptions_mc2"], tmp_path)
    task = benchmark.manager.load([benchmark.task])["tasks"][benchmark.task]
    scores = [
        task.process_results(doc, [(-7.0, False)] * len(doc["choices"]))["acc"] for doc in task.eval_docs
    ]
    assert np.mean(scores) == pytest.approx(of(pocket, benchmark.task, "uniform"))


def test_word_frequencies_are_the_entropy_of_the_words(pocket):
    words = " ".join(item["page"] for item in lines("prose.jsonl")).split()
    _, counts = np.unique(words, return_counts=True)
    p = counts / counts.sum()
    expected = np.exp(-(p * np.log(p)).sum())
    assert of(pocket, "pocket_prose", "word frequencies", "word_perplexity") == pytest.approx(expected)
    assert of(pocket, "pocket_prose", "uniform words", "word_perplexity") == pytest.approx(len(counts))


def test_null_responders_of_instructions(pocket):
    strict = pocket[pocket["metric"] == "prompt_level_strict_acc"].set_index("responder")["value"]
    assert set(strict.index) == {*NULL_RESPONDERS, *CHOSEN_ANSWERS}
    assert strict["empty"] == 0
    # Texts that were written without reading anything obey some instructions all the same.
    assert strict.drop("empty").min() > 0


def test_the_most_frequent_answer_by_hand(pocket):
    answers = [item["answer"] for item in lines("arithmetic.jsonl")]
    share = max(answers.count(answer) for answer in set(answers)) / len(answers)
    assert of(pocket, "pocket_arithmetic", "most frequent answer", "exact_match") == pytest.approx(share)


def test_texts_go_through_the_filters_of_the_task(tmp_path):
    (benchmark,) = find_benchmarks(["pocket_instructions"], tmp_path)
    task = benchmark.manager.load([benchmark.task])["tasks"][benchmark.task]
    one = task.eval_docs.filter(lambda doc: doc["instruction_id_list"] == ["punctuation:no_comma"])
    task.task_docs = one
    texts = ["a, b" if i % 2 else "a b" for i in range(len(task.eval_docs))]
    found = score_texts(task, texts)
    assert 0 < found["inst_level_strict_acc"] < 1 and found["prompt_level_strict_acc"] <= 0.5


@pytest.mark.parametrize("chosen", CHOSEN_ANSWERS)
def test_an_answer_chosen_on_half_says_what_it_scores_on_both(pocket, chosen):
    strict = "prompt_level_strict_acc"
    halves = [
        of(pocket, "pocket_instructions", chosen, f"{strict}_{half}_half") for half in ("chosen", "other")
    ]
    sizes = pocket[pocket["metric"].str.endswith("_half") & (pocket["responder"] == chosen)]["n"]
    assert sizes.tolist() == [60, 60]
    assert np.mean(halves) == pytest.approx(of(pocket, "pocket_instructions", chosen, strict))


def test_every_responder_is_of_one_kind(pocket):
    kinds = pocket.groupby("responder")["kind"].unique().map(list).to_dict()
    assert {kind for (kind,) in kinds.values()} == set(KINDS)
    assert kinds["uniform"] == kinds["always 1"] == kinds["word frequencies"] == ["blind"]
    assert kinds["prompt echoed"] == ["reading"] and kinds["longest"] == kinds["shortest"] == ["control"]


def test_headline_floors_take_the_best_responder_of_a_kind(pocket):
    floor = headline_floors(pocket)
    assert set(floor.index) == set(SUITES["pocket"]) - set(pocket.attrs["missing"])
    # The right answer stands first in TruthfulQA's data; a model does not see that.
    assert floor["pocket_misconceptions_mc2"] == of(pocket, "pocket_misconceptions_mc2", "uniform") < 1
    assert floor["pocket_prose"] == of(pocket, "pocket_prose", "word frequencies", "word_perplexity")
    strict = pocket[pocket["metric"] == "prompt_level_strict_acc"].groupby("kind")["value"].max()
    read = headline_floors(pocket, "reading")
    other = of(
        pocket, "pocket_instructions", "one text repeated, chosen", "prompt_level_strict_acc_other_half"
    )
    assert floor["pocket_instructions"] == other < strict["reading"] == read["pocket_instructions"]
    assert floors_and_errors(pocket, held_out=False)["pocket_instructions"][0] == strict["blind"]
    # One word repeated has as much, on all prompts: what it scores is known.
    errors = {task: error for task, (_, error) in floors_and_errors(pocket).items()}
    assert errors["pocket_instructions"] == 0 == errors["pocket_facts"]
    assert set(read.index) == {"pocket_instructions", "pocket_arithmetic"}
    # Neither floor is a control, though one answer fitted to the checks beats both.
    assert strict["control"] > strict["reading"]


def test_a_chosen_text_counts_by_the_prompts_that_did_not_choose_it_and_has_their_error():
    ifeval = load_floors().query("task == 'ifeval'")
    other = of(ifeval, "ifeval", "one text repeated, chosen", "prompt_level_strict_acc_other_half")
    assert headline_floors(ifeval)["ifeval"] == other < floors_and_errors(ifeval, held_out=False)["ifeval"][0]
    assert floors_and_errors(ifeval)["ifeval"][1] == pytest.approx((other * (1 - other) / 271) ** 0.5)


def test_lines_of_figures_name_both_floors(pocket):
    lines = floor_lines(pocket)
    assert list(lines["pocket_instructions"]) == list(FLOOR_NAMES.values())
    assert lines["pocket_facts"] == {"blind floor": 0.25}


@pytest.mark.parametrize(("n", "floor"), [(3270, 0.62), (10, 0.5)])
def test_a_majority_counts_only_beyond_noise(n, floor):
    rows = [("uniform", 0.5), ("always 1", 0.38), ("always 2", 0.62)]
    table = pd.DataFrame(rows, columns=["responder", "value"]).assign(
        task="boolq", metric="acc", n=n, kind="blind"
    )
    assert headline_floors(table)["boolq"] == floor


def test_the_committed_floors_are_those_of_todays_scorers(pocket):
    keys = ["task", "responder", "metric"]
    both = pocket.merge(load_floors(), on=[*keys, "data"], suffixes=("", "_committed"))
    assert len(both) == len(pocket)
    np.testing.assert_allclose(both["value_committed"], both["value"], rtol=1e-5)


@pytest.mark.skipif("WIDTHPRUNE_DATA" not in os.environ, reason="the paper's benchmarks are not here")
def test_the_committed_floors_of_the_papers_benchmarks():
    found = compute_floors("paper")
    keys = ["task", "responder", "metric"]
    both = found.merge(load_floors(), on=[*keys, "data"], suffixes=("", "_committed"))
    assert len(both) == len(found)
    np.testing.assert_allclose(both["value_committed"], both["value"], rtol=1e-5)


def test_the_command_writes_a_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WIDTHPRUNE_DATA", str(tmp_path))
    out = tmp_path / "floors.csv"
    assert main(["floors", "--suite", "pocket_facts", "hellaswag", "--out", str(out)]) == 0
    assert "missing: hellaswag: no file" in capsys.readouterr().out
    assert set(pd.read_csv(out)["task"]) == {"pocket_facts"}


def test_a_control_is_no_floor(pocket):
    with pytest.raises(WidthPruneError, match="kind must be one of blind, reading, got 'control'"):
        headline_floors(pocket, "control")


def test_a_task_of_two_suites_has_its_floors_once(tmp_path):
    assert main(["floors", "--suite", "pocket", "pocket_facts", "--out", str(tmp_path / "f.csv")]) == 0
    assert not pd.read_csv(tmp_path / "f.csv").duplicated(["task", "responder", "metric"]).any()


def test_data_that_is_damaged_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WIDTHPRUNE_DATA", str(tmp_path))
    (tmp_path / "piqa").mkdir()
    (tmp_path / "piqa" / "validation.jsonl").write_text("no JSON")
    table = compute_floors("piqa")
    assert table.empty and "its data cannot be read" in table.attrs["missing"]["piqa"]
    # Nothing is no file of floors.
    assert main(["floors", "--suite", "piqa", "--out", str(tmp_path / "f.csv")]) == 2
    said = capsys.readouterr().err
    assert "no floors to write: piqa: its data cannot be read" in said and said.count("\n") == 1
    assert not (tmp_path / "f.csv").exists()
