"""The ledger: verdicts follow the numbers, the paper's numbers come out, and bad claims are refused."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from widthprune import WidthPruneError, load_results, published
from widthprune.audit.evidence import Evidence
from widthprune.audit.floors import load_floors
from widthprune.audit.ledger import OUTCOMES, judge, judge_all, load_claims, save_ledger, to_html, to_table
from widthprune.results import tidy

ROOT = Path(__file__).parent.parent
REPRODUCED, EXPLAINED, NOT, UNTESTABLE = OUTCOMES
CLAIMS = {claim.id: claim for claim in load_claims()}


@pytest.fixture(scope="module")
def evidence():
    return Evidence(load_results(ROOT / "results"), load_floors())


@pytest.fixture(scope="module")
def ledger(evidence):
    return {name: judge(claim, evidence) for name, claim in CLAIMS.items()}


# The paper's numbers, to the digits that it prints, and what became of each.
@pytest.mark.parametrize(
    ("name", "found", "outcome"),
    [
        ("r-3b", "-0.864", EXPLAINED),
        ("p-3b", "0.012", EXPLAINED),
        ("r-1b", "-0.676", EXPLAINED),
        ("p-1b", "0.096", REPRODUCED),
        ("ifeval-1b-40", "+46%", EXPLAINED),
        ("ifeval-1b-30", "+75%", EXPLAINED),
        ("mmlu-3b-60", "-53.8%", REPRODUCED),
        ("instruct-ifeval", "-59.9%", REPRODUCED),
        ("mc2-3b-60", "+16.7%", EXPLAINED),
        ("energy-23", "-23%", REPRODUCED),
        ("latency-18", "+18%", EXPLAINED),
    ],
)
def test_the_numbers_of_the_paper(ledger, name, found, outcome):
    assert (ledger[name].found, ledger[name].outcome) == (found, outcome)


def test_the_ledger_is_large_enough_and_uses_every_outcome(ledger):
    assert len(ledger) >= 30
    assert {one.outcome for one in ledger.values()} == set(OUTCOMES)


def test_no_verdict_is_typed():
    text = (ROOT / "widthprune" / "audit" / "claims.yaml").read_text()
    entries = yaml.safe_load(text)
    assert not any({"outcome", "verdict"} & set(entry) for entry in entries)
    assert not any(outcome in str(value) for e in entries for value in e.values() for outcome in OUTCOMES)


def with_value(model, task, pct, value):
    """The published table with one score changed."""
    table = published("capabilities")
    at = (table["model"] == model) & (table["task"] == task) & (table["pruning_pct"] == pct)
    table.loc[at, "value"] = value
    return table


def test_a_changed_number_changes_the_verdict(evidence):
    other = with_value("Llama-3.2-1B", "ifeval", 40, 0.12)
    changed = Evidence(evidence.measured_table, evidence.floor_table, capabilities=other)
    found = judge(CLAIMS["ifeval-1b-40"], changed)
    assert (found.outcome, found.found) == (NOT, "+16%")


def test_a_changed_floor_changes_the_verdict(evidence):
    floors = evidence.floor_table.copy()
    floors.loc[floors["task"] == "ifeval", "value"] = 0.05
    assert judge(CLAIMS["ifeval-1b-40"], Evidence(evidence.measured_table, floors)).outcome == REPRODUCED


def measured(**perplexities):
    """Measured perplexities of WikiText at 10% under each criterion, the same for both models."""
    rows = [
        dict(model=model, criterion=name, pruning_pct=0 if name == "none" else 10, task="wikitext", metric="word_perplexity",
             value=value, stderr=1.0, n=17, seed=0, num_fewshot=0, dtype="auto", chat_template=False)
        for model in ("smollm2-135m-instruct", "gemma3-270m")
        for name, value in ({"none": 20.0} | perplexities).items()
    ]  # fmt: skip
    return tidy(pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("perplexities", "outcome", "holds"),
    [
        (dict(PPM=50.0, VOW=90.0, PON=80.0, RANDOM=70.0), REPRODUCED, "yes"),
        (dict(PPM=50.0, VOW=90.0, PON=80.0, RANDOM=40.0), EXPLAINED, "yes"),
        (dict(PPM=50.0, VOW=90.0, PON=45.0, RANDOM=70.0), NOT, "no"),
        (dict(RANDOM=70.0), REPRODUCED, "not yet"),
    ],
)
def test_measured_results_change_the_verdict(evidence, perplexities, outcome, holds):
    found = judge(CLAIMS["criteria-wikitext"], Evidence(measured(**perplexities), evidence.floor_table))
    assert (found.outcome, found.measured) == (outcome, holds)


def test_one_measured_step_the_other_way_changes_the_verdict(evidence, ledger):
    table = evidence.measured_table.copy()
    asked = {"model": "smollm2-135m-instruct", "task": "wikitext", "criterion": "PPM", "pruning_pct": 20}
    at = (table[list(asked)] == pd.Series(asked)).all(axis=1) & (table["metric"] == "word_perplexity")
    assert at.any()
    table.loc[at, ["value", "stderr"]] = 300.0, 10.0
    found = judge(CLAIMS["perplexity-monotone"], Evidence(table, evidence.floor_table))
    assert (ledger["perplexity-monotone"].outcome, found.outcome) == (REPRODUCED, NOT)


def test_a_claim_that_nothing_answers_says_what_it_would_take(evidence, ledger):
    assert ledger["llama-measured"].outcome == UNTESTABLE
    assert "access to the weights" in ledger["llama-measured"].because
    nothing = Evidence(measured(), evidence.floor_table)
    found = judge(CLAIMS["regularization"], nothing)
    assert found.outcome == UNTESTABLE and "not measured" in found.because


def test_every_claim_names_a_chapter_of_the_book():
    toc = (ROOT / "_toc.yml").read_text()
    assert all(f"notebooks/{claim.chapter}" in toc for claim in CLAIMS.values())
    assert {claim.id for claim in CLAIMS.values() if claim.explained and not claim.control} == set()


def test_the_published_copies_hold_every_claim(ledger, tmp_path):
    paths = save_ledger(ledger.values(), tmp_path)
    assert [path.name for path in paths] == ["claims.json", "claims.csv"]
    records = json.loads(paths[0].read_text())
    assert [one["id"] for one in records] == list(CLAIMS) == pd.read_csv(paths[1])["id"].tolist()
    assert records[0]["outcome"] == ledger[records[0]["id"]].outcome
    assert to_table(ledger.values())["outcome"].isin(OUTCOMES).all()


def test_the_html_table_is_whole_without_script(ledger):
    chapters = {claim.chapter: f"{claim.chapter}.html" for claim in CLAIMS.values()}
    text = to_html(ledger.values(), chapters)
    assert len(re.findall("<tr id=", text)) == len(CLAIMS)
    assert not re.search("<tr[^>]* hidden|<script|display: *none", text)
    assert "href='04_truthfulness.html'" in text and "-0.864" in text


def test_the_committed_results_are_read():
    assert {one.claim.id for one in judge_all(ROOT / "results")} == set(CLAIMS)


GOOD = "- {id: a, group: g, claim: c, where: w, chapter: 01_architecture, recompute: 'True'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {id: a, group: g}", "a lacks chapter, claim, recompute, where"),
        (GOOD + ", verdict: reproduced}", "a has unknown fields verdict"),
        (GOOD + "}\n" + GOOD + "}", "the id a is there twice"),
        (GOOD + ", printed: 3}", "a prints a number and states no tolerance"),
        (GOOD.replace("'True'", "null") + "}", "a states no rule"),
    ],
)
def test_bad_claims(text, message):
    with pytest.raises(WidthPruneError, match=message):
        load_claims(text)


@pytest.mark.parametrize(
    "rule", ["chnge('1B', 'mmlu', 40)", "change('1B'", "open('x')", "change('7B', 'mmlu', 40)"]
)
def test_a_rule_that_cannot_be_evaluated_is_named(evidence, rule):
    (claim,) = load_claims(GOOD.replace("'True'", '"' + rule + '"') + "}")
    with pytest.raises(WidthPruneError, match="claims.yaml: a: recompute cannot be evaluated"):
        judge(claim, evidence)
