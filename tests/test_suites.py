"""Suites: the pocket data is sound, official task files stay untouched, missing data is named."""

import json
import re
from collections import Counter

import datasets
import nltk
import numpy as np
import pytest

from widthprune import WidthPruneError
from widthprune.evaluation.suites import POCKET, find_benchmarks, resolve
from widthprune.pocket import generate, scoring
from widthprune.report.tasks import SUITES


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


@pytest.mark.parametrize("name", generate.GENERATED)
def test_generated_files_are_what_the_generator_makes(name):
    text = (POCKET / "data" / f"{name}.jsonl").read_text(encoding="utf-8")
    assert text == generate.to_lines(generate.GENERATED[name]())


def test_arithmetic_is_right_and_takes_two_steps():
    items = rows("arithmetic.jsonl")
    assert len({item["question"] for item in items}) == len(items) == 120
    for item in items:
        steps = re.findall(r"(\d+) ([+*-]) (\d+) = (\d+)", item["steps"])
        assert len(steps) == 2 and int(steps[1][3]) == item["answer"] >= 0
        for left, sign, right, result in steps:
            assert {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[sign](int(left), int(right)) == int(
                result
            )
        assert steps[1][0] == steps[0][3]
        numbers = re.findall(r"\d+", item["question"])
        assert sorted(numbers, key=int) == sorted([steps[0][0], steps[0][2], steps[1][2]], key=int)


@pytest.mark.parametrize(
    ("text", "right"),
    [(" 3 + 4 = 7. The answer is 1,234.", 1), ("1234 is it, or 12", 0), ("none", 0), ("-1234", 0), ("", 0)],
)
def test_the_last_number_counts(text, right):
    assert scoring.right_number({"answer": 1234}, [text]) == {"exact_match": right}


def test_instructions_are_scored_by_the_classes_of_ifeval():
    items = rows("instructions.jsonl")
    assert len(items) == 120
    # Every request and its instructions can be worded and scored.
    prompts = [scoring.instructed_prompt(item) for item in items]
    assert len(set(prompts)) == len(items)
    kinds = Counter(name for item in items for name in item["instruction_id_list"])
    assert len(kinds) == 14 and min(kinds.values()) >= 8
    for item in items:
        assert not any(scoring.instructions_followed(item, [""])["inst_level_strict_acc"])
    item = {
        "topic": "Say it.",
        "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
        "kwargs": "[{}, {}]",
    }
    found = scoring.instructions_followed(item, ['"one, two"'])
    assert found["inst_level_strict_acc"] == [False, True] and not found["prompt_level_strict_acc"]
    assert scoring.instructions_followed(item, ['"one two"'])["prompt_level_strict_acc"]
    assert scoring.share_followed([[False, True], [True]]) == pytest.approx(2 / 3)


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


def test_data_is_read_where_the_cache_of_datasets_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", "/proc/nothing/here")
    (benchmark,) = find_benchmarks("pocket_facts", tmp_path)
    assert benchmark.loaded["tasks"]["pocket_facts"].eval_docs


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
    with pytest.raises(WidthPruneError, match=r"tasks must be suites \(paper.*got mmmlu$"):
        resolve(["mmlu", "mmmlu"])


def test_data_that_the_hub_does_not_give_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("WIDTHPRUNE_DATA", raising=False)
    (benchmark,) = find_benchmarks(["boolq"], tmp_path)
    assert benchmark.data == "hub" and not benchmark.missing

    def unreachable(*names):
        raise ConnectionError("no route to the hub\nwith details")

    monkeypatch.setattr(benchmark.manager, "load", unreachable)
    with pytest.raises(
        WidthPruneError, match=r"cannot be had from the hub \(no route to the hub\): check the"
    ):
        benchmark.loaded  # noqa: B018


def test_without_sentence_tables_ifeval_is_missing_and_pocket_is_not(tmp_path, monkeypatch):
    def absent(name, *paths):
        raise LookupError

    monkeypatch.setattr(nltk.data, "find", absent)
    monkeypatch.setattr(nltk, "download", lambda *a, **k: False)
    monkeypatch.delenv("WIDTHPRUNE_DATA", raising=False)
    found = find_benchmarks(["ifeval", "pocket_instructions"], tmp_path)
    assert found[0].missing.startswith("NLTK's punkt_tab cannot be fetched") and not found[1].missing
    (tmp_path / "ifeval").mkdir()
    (tmp_path / "ifeval" / "train.jsonl").write_text("{}\n")
    monkeypatch.setenv("WIDTHPRUNE_DATA", str(tmp_path))
    (found,) = find_benchmarks(["ifeval"], tmp_path)
    assert found.missing == "no nltk_data/tokenizers/punkt_tab under WIDTHPRUNE_DATA"
