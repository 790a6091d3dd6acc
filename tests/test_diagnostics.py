"""Diagnostics: hand cases, a trusted reference, and a run on a tiny model that is computed once."""

import gzip
import json

import numpy as np
import pytest
from scipy.stats import binomtest

from widthprune import WidthPruneError, load_results
from widthprune.__main__ import main
from widthprune.audit.diagnostics import (
    answer_masses,
    calibration,
    clustered_stderr,
    diagnose,
    divergence,
    instruction_shares,
    paired,
    shortest_chosen,
    text_diagnostics,
)
from widthprune.evaluation.evaluate import evaluate
from widthprune.evaluation.samples import SUFFIX, load_samples
from widthprune.reruns.contributions import find_problems


def test_texts_by_hand():
    found = text_diagnostics(["a b a b", "", "a a a a"])
    assert found["words"] == pytest.approx(8 / 3) and found["empty"] == pytest.approx(1 / 3)
    assert found["distinct_1"] == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert found["distinct_2"] == pytest.approx((2 / 3 + 1 / 3) / 2)  # ab ba ab, aa aa aa
    assert found["word_entropy"] == pytest.approx((1 + 0) / 2)


def test_shares_by_instruction_type():
    found = instruction_shares([["a:b", "c:d"], ["a:b"]], [[True, False], [False]])
    assert found == {"share_a:b": 0.5, "share_c:d": 0.0}


def test_masses_by_hand():
    logs = np.log([[0.01, 0.03, 0.06]])
    found = answer_masses(logs, [[1, 1, 0]])
    assert found["log10_mass_true"] == pytest.approx(np.log10(0.04))
    assert found["log10_mass_false"] == pytest.approx(np.log10(0.06))
    p = np.array([0.1, 0.3, 0.6])
    assert found["answer_entropy"] == pytest.approx(-(p * np.log(p)).sum() / np.log(3))


def test_equal_answers_are_flat_even_where_their_probabilities_underflow():
    assert answer_masses([[-2000.0, -2000.0]], [[1, 0]])["answer_entropy"] == pytest.approx(1)


def test_calibration_by_hand():
    # Sure at 0.9 and right, sure at 0.9 and wrong: accuracy 0.5 in one bin, confidence 0.9.
    found = calibration(np.log([[0.9, 0.1], [0.9, 0.1]]), [0, 1])
    assert found == {"ece": pytest.approx(0.4), "confidence": pytest.approx(0.9)}


def test_divergence_by_hand_and_from_itself():
    p, q = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    found = divergence([np.log(q) - 3], [np.log(p) - 40])  # only the normalized answers count
    assert found["kl_to_unpruned"] == pytest.approx((p * np.log(p / q)).sum())
    assert divergence([np.log(q)], [np.log(q)])["kl_to_unpruned"] == pytest.approx(0)


def test_mcnemar_is_the_sign_test_of_the_items_that_flipped():
    before = [True] * 9 + [False] * 3
    after = [False] * 7 + [True] * 2 + [True] + [False] * 2  # seven lost, one gained
    found = paired(after, before)
    assert found["flip_rate"] == pytest.approx(8 / 12)
    assert found["mcnemar_p"] == pytest.approx(binomtest(1, 8).pvalue)


def test_how_often_the_shortest_answer_is_chosen_by_hand():
    rows = [[-1.0, -2.0], [-3.0, -2.0, -9.0], [-5.0, -1.0]]
    assert shortest_chosen(rows, [0, 1, 0]) == pytest.approx(2 / 3)


def test_clusters_of_one_are_the_plain_error_and_equal_items_count_once():
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    plain = np.std(values, ddof=1) / np.sqrt(5)
    assert clustered_stderr(values, range(5)) == pytest.approx(plain, rel=0.01)
    doubled = clustered_stderr(np.repeat(values, 2), np.repeat(range(5), 2))
    assert doubled == pytest.approx(plain, rel=0.08)


def test_a_run_is_diagnosed_once_beside_its_result(language_model, tmp_path):
    tasks = ["pocket_facts", "pocket_misconceptions_mc2", "pocket_instructions"]
    evaluate(language_model, tasks, pruning_pcts=[50], limit=3, save_samples=True, results_dir=tmp_path)
    assert len(diagnose(tmp_path)) == 6 and diagnose(tmp_path) == []
    table = load_results(tmp_path).set_index(["task", "pruning_pct", "metric"])["value"]
    items = load_samples(tmp_path, task="pocket_misconceptions_mc2", pruning_pct=0.0)
    expected = answer_masses(items["loglikelihoods"], items["labels"])
    assert table["pocket_misconceptions_mc2", 0, "answer_entropy"] == expected["answer_entropy"]
    assert table["pocket_facts", 50, "kl_to_unpruned"] >= 0
    assert 0 <= table["pocket_facts", 50, "mcnemar_p"] <= 1
    assert 0 <= table["pocket_misconceptions_mc2", 50, "shortest_chosen"] <= 1
    # MC2 is no count of right answers, so it has no paired test; nothing is compared with itself.
    assert ("pocket_misconceptions_mc2", 50, "mcnemar_p") not in table
    pruned = load_samples(tmp_path, task="pocket_misconceptions_mc2", pruning_pct=50.0)
    change = pruned.set_index("doc_id")["acc"] - items.set_index("doc_id")["acc"]
    assert table["pocket_misconceptions_mc2", 50, "change_stderr"] == pytest.approx(
        change.std() / len(change) ** 0.5
    )
    assert ("pocket_facts", 0, "kl_to_unpruned") not in table
    assert table["pocket_instructions", 50, "words"] > 0
    # Whatever is measured here can be contributed.
    assert find_problems(tmp_path)[0] == []
    # What other programs leave beside results is none.
    left = tmp_path / "__MACOSX" / f"._left{SUFFIX}"
    left.parent.mkdir()
    left.write_bytes(b"no results")
    assert diagnose(tmp_path) == []


def test_the_command_says_what_it_found(language_model, tmp_path, capsys):
    asked = dict(pruning_pcts=[], limit=2, results_dir=str(tmp_path))
    evaluate(language_model, "pocket_facts", **asked)
    command = ["diagnose", "--results-dir", str(tmp_path)]
    assert main(command) == 2
    said = capsys.readouterr()
    assert said.out == "" and "keeps no answers" in said.err and "--save-samples" in said.err
    evaluate(language_model, "pocket_facts", save_samples=True, **asked)
    for says in ("pocket_facts", "nothing new"):
        capsys.readouterr()
        assert main(command) == 0
        assert says in capsys.readouterr().out


def test_a_perplexity_beside_the_other_tasks(language_model, tmp_path):
    """Its items are pairs of numbers, of which no difference and no cluster is an item's."""
    tasks = ["pocket_prose", "pocket_facts"]
    evaluate(language_model, tasks, pruning_pcts=[20], limit=2, save_samples=True, results_dir=str(tmp_path))
    assert {path.name.split("-")[2] for path in diagnose(tmp_path)} == {"pocket_facts"}


WRONG = [
    [],
    [{}],
    {"leaf": 1},
    {"doc_id": [1]},
    {"filter": None},
    {"loglikelihoods": [1, "a"]},
    {"loglikelihoods": 5},
]
WRONG += [{"labels": "x"}, {"labels": [1]}, {"generated": 5}, {"instructions": ["a"]}, {"target": [1]}]


def test_records_that_are_damaged_are_one_line(language_model, tmp_path):
    few = dict(pruning_pcts=[20], limit=2, save_samples=True, results_dir=str(tmp_path))
    evaluate(language_model, "pocket_facts", **few)
    files = {path: json.loads(gzip.decompress(path.read_bytes())) for path in tmp_path.rglob(f"*{SUFFIX}")}
    for wrong in WRONG:
        for path, records in files.items():
            found = [record | wrong for record in records] if isinstance(wrong, dict) else wrong
            path.write_bytes(gzip.compress(json.dumps(found).encode()))
        with pytest.raises(
            WidthPruneError, match=r"samples.json.gz is damaged.*: delete it and run"
        ) as error:
            diagnose(tmp_path)
        assert "\n" not in str(error.value), wrong
        for path in tmp_path.rglob("*.json"):
            assert "diagnostics" not in path.read_text(), wrong
