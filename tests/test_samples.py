"""Per-item records: what is kept of each item, that it agrees with the result, and what is refused."""

import gzip

import numpy as np
import pytest

from widthprune import WidthPruneError
from widthprune.evaluation.evaluate import evaluate
from widthprune.evaluation.samples import load_samples, records
from widthprune.report.tasks import headline

QUICK = dict(limit=6, pruning_pcts=[0, 50], save_samples=True)


def test_a_record_holds_answers_and_no_questions():
    choice = dict(doc_id=3, filter="none", metrics=["acc"], acc=1.0, target=1, doc={"question": "why"})
    choice |= dict(resps=[[(-1.5, False)], [(-0.5, True)]], filtered_resps=[(-1.5, False), (-0.5, True)])
    choice |= dict(arguments=[("why", " because"), ("why", " so")])
    text = dict(doc_id=0, filter="none", metrics=["strict"], strict=True, target="why", resps=[["because"]])
    text |= dict(filtered_resps=["because"], doc={"prompt": "why", "instruction_id_list": ["a:b"]})
    assert records({"t": [choice], "u": [text]}) == [
        {"leaf": "t", "doc_id": 3, "filter": "none", "acc": 1.0, "loglikelihoods": [-1.5, -0.5],
         "greedy": [False, True], "shortest": 1, "target": 1},
        {"leaf": "u", "doc_id": 0, "filter": "none", "strict": True, "generated": "because",
         "instructions": ["a:b"]},
    ]  # fmt: skip


def test_records_agree_with_the_results(language_model, tmp_path):
    tasks = ["pocket_facts", "pocket_misconceptions_mc2", "pocket_prose"]
    table = headline(evaluate(language_model, tasks, results_dir=tmp_path, **QUICK))
    items = load_samples(tmp_path)
    assert len(items) == 6 * 2 * 3
    for task in tasks[:2]:
        means = items[items["task"] == task].groupby("pruning_pct")["acc"].mean()
        expected = table[table["task"] == task].set_index("pruning_pct")["value"]
        np.testing.assert_allclose(means, expected.sort_index(), rtol=1e-12)
    facts = items[items["task"] == "pocket_facts"]
    right = [int(np.argmax(row.loglikelihoods)) == row.target for row in facts.itertuples()]
    assert right == facts["acc"].astype(bool).tolist() and facts["shortest"].dropna().between(0, 3).all()
    both = load_samples(tmp_path, task="pocket_misconceptions_mc2", pruning_pct=50)
    assert len(both) == 6 and (both["labels"].str.len() == both["loglikelihoods"].str.len()).all()


def test_a_result_without_its_records_is_measured_again(language_model, tmp_path):
    plain = evaluate(
        language_model, ["pocket_facts"], results_dir=tmp_path, **(QUICK | {"save_samples": False})
    )
    assert load_samples(tmp_path).empty
    again = evaluate(language_model, ["pocket_facts"], results_dir=tmp_path, **QUICK)
    assert len(load_samples(tmp_path)) == 12
    assert plain["value"].tolist() == again["value"].tolist()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    evaluate(language_model, ["pocket_facts"], results_dir=tmp_path, **QUICK)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}


def test_damaged_records_are_named(language_model, tmp_path):
    evaluate(language_model, ["pocket_facts"], results_dir=tmp_path, **(QUICK | {"pruning_pcts": [0]}))
    (path,) = tmp_path.rglob("*.gz")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WidthPruneError, match=f"{path.name} is damaged: delete it"):
        load_samples(tmp_path)
    for damaged in (
        b"\x1f\x8b\x08\0\0\0\0\0\0\0\xff\xff",
        gzip.compress(b"[3]"),
        gzip.compress(b"[" * 10**5),
    ):
        path.write_bytes(damaged)
        with pytest.raises(WidthPruneError, match=f"{path.name} is damaged: delete it"):
            load_samples(tmp_path)
    path.write_bytes(gzip.compress(b"[]"))
    assert load_samples(tmp_path).empty
    path.with_name(path.name.replace(".samples.json.gz", ".json")).unlink()
    with pytest.raises(WidthPruneError, match="has no .*json beside it"):
        load_samples(tmp_path)
