"""Suites: the pocket data is sound, official task files stay untouched, missing data is named."""

import json
import re

import numpy as np
import pytest

from widthprune import WidthPruneError
from widthprune.pocket import generate, scoring
from widthprune.suites import POCKET, SUITES, find_benchmarks, resolve


def rows(name):
    return [json.loads(line) for line in (POCKET / "data" / name).read_text(encoding="utf-8").splitlines()]


def test_mc2_by_hand():
    doc = {"labels": [1, 0]}
    assert scoring.mc2(doc, [(np.log(0.3), True), (np.log(0.1), False)])["acc"] == pytest.approx(0.75)


def test_mc2_survives_probabilities_that_underflow():
    found = scoring.mc2({"labels": [1, 0]}, [(-2000.0, False), (-2000.0, False)])
    assert found["acc"] == pytest.approx(0.5)


def test_words_are_split_at_white_space():
    assert scoring.count_words({"page": " two\n words "}, (-3.0,)) == {"word_perplexity": (-3.0, 2)}


def test_facts_are_what_the_generator_makes():
    text = (POCKET / "data" / "facts.jsonl").read_text(encoding="utf-8")
    assert text == generate.to_lines(generate.facts())


def test_facts_are_balanced_and_have_one_right_answer():
    facts = rows("facts.jsonl")
    assert np.bincount([fact["answer"] for fact in facts]).tolist() == [len(facts) // 4] * 4
    assert all(len(set(fact["choices"])) == 4 for fact in facts)
    assert len({fact["question"] for fact in facts}) == len(facts)


def test_misconceptions_have_true_and_false_answers_best_first():
    items = rows("misconceptions.jsonl")
    assert len({item["question"] for item in items}) == len(items) == 104
    for item in items:
        assert len(item["choices"]) == len(item["labels"]) == len(set(item["choices"]))
        assert item["labels"][0] == 1 and item["labels"] == sorted(item["labels"], reverse=True)
        assert item["labels"].count(1) in (2, 3) and item["labels"].count(0) in (2, 3, 4)
        assert scoring.mc1_choices(item)[0] == item["choices"][0]
        assert len(scoring.mc1_choices(item)) == 1 + item["labels"].count(0)


def test_prose_is_a_hundred_different_documents():
    pages = [row["page"] for row in rows("prose.jsonl")]
    assert len(set(pages)) == len(pages) == 100
    assert all(page == " ".join(page.split()) and len(page.split()) >= 45 for page in pages)
    sentences = [s for page in pages for s in re.split(r"(?<=[.!?]) ", page) if len(s.split()) > 5]
    assert len(set(sentences)) == len(sentences)


def test_the_last_word_stands_earlier_in_most_passages_and_not_in_its_own_sentence():
    texts = [row["text"] for row in rows("last_words.jsonl")]
    assert len(set(texts)) == len(texts) == 120
    seen = 0
    for text in texts:
        # Split as the task splits: one space between words, so that the target is the whole last word.
        *context, last = text.split(" ")
        assert last.isalpha() and 30 <= len(context) + 1 <= 60
        sentences = re.split(r"(?<=[.!?]) (?=[A-Z])", " ".join(context).replace("Mr ", "Mr_"))
        assert 2 <= len(sentences) <= 4
        *before, own = (set(re.findall(r"\w+", sentence.lower())) for sentence in sentences)
        assert last.lower() not in own
        seen += any(last.lower() in words for words in before)
    assert seen >= 90


def test_the_readme_of_the_suite_states_its_sizes():
    readme = (POCKET / "README.md").read_text(encoding="utf-8")
    prose = rows("prose.jsonl")
    words = sum(len(page["page"].split()) for page in prose)
    assert f"{len(prose)} documents, {words:,} words" in readme
    assert f"{len(rows('facts.jsonl'))} questions" in readme
    assert f"{len(rows('misconceptions.jsonl'))} questions" in readme
    assert f"{len(rows('last_words.jsonl'))} passages" in readme


def test_pocket_needs_no_data_and_no_hub(tmp_path, monkeypatch):
    monkeypatch.delenv("WIDTHPRUNE_DATA", raising=False)
    found = find_benchmarks("pocket", tmp_path)
    assert [b.task for b in found] == list(SUITES["pocket"])
    assert all(b.data.startswith("sha256:") and not b.missing and b.version == "1" for b in found)


def test_local_data_is_found_and_a_missing_file_is_named(tmp_path, monkeypatch):
    data, scratch = tmp_path / "data", tmp_path / "scratch"
    scratch.mkdir()
    (data / "piqa").mkdir(parents=True)
    item = {"goal": "open it", "sol1": "turn the lid", "sol2": "eat the lid", "label": 0}
    (data / "piqa" / "validation.jsonl").write_text(json.dumps(item) + "\n")
    monkeypatch.setenv("WIDTHPRUNE_DATA", str(data))
    piqa, hellaswag = find_benchmarks(["piqa", "hellaswag"], scratch)
    assert not piqa.missing
    assert hellaswag.missing == "no file hellaswag/validation.jsonl under WIDTHPRUNE_DATA"
    task = piqa.manager.load(["piqa"])["tasks"]["piqa"]
    (doc,) = task.eval_docs
    # The prompt is lm-eval's own.
    assert task.doc_to_text(doc) == "Question: open it\nAnswer:"


def test_every_task_of_the_paper_is_known_with_its_shots():
    assert len(SUITES["paper"]) == 13
    assert {task: n for task, n in SUITES["paper"].items() if n} == {"mmlu": 5, "gsm8k": 5}


def test_an_unknown_task():
    with pytest.raises(WidthPruneError, match=r"tasks must be a suite \(paper.*got mmmlu$"):
        resolve(["mmlu", "mmmlu"])
