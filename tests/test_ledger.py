"""The ledger: verdicts follow the numbers, the paper's numbers come out, and bad claims are refused."""

import html
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from IPython.display import Markdown

from widthprune import WidthPruneError, load_results, published
from widthprune.audit.claims import Claim, load_claims
from widthprune.audit.effects import AS_MUCH, MORE, NO, UNSURE, YES, Effect
from widthprune.audit.evidence import Evidence
from widthprune.audit.floors import load_floors
from widthprune.audit.ledger import ABSENT, Ledger, decide, judge, judge_all
from widthprune.audit.ledger_tables import in_words, save_ledger, to_html, to_table
from widthprune.audit.sensitivity import sensitivity
from widthprune.report.results import tidy
from widthprune.report.tasks import TASKS
from widthprune.report.verdicts import OUTCOMES, Verdict
from widthprune.studies.stored import StoredStudies

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
REPRODUCED, LIKE_CONTROL, INCONCLUSIVE, NOT, NO_TRANSFER, UNTESTABLE = OUTCOMES
CLAIMS = {claim.id: claim for claim in load_claims()}


@pytest.fixture(scope="module")
def evidence():
    return Evidence(load_results(ROOT / "results"), load_floors(), grown=StoredStudies(ROOT / "results"))


@pytest.fixture(scope="module")
def there():
    """The ledger as a chapter has it, read once."""
    return Ledger(ROOT / "results")


@pytest.fixture(scope="module")
def ledger(evidence):
    return {name: judge(claim, evidence) for name, claim in CLAIMS.items()}


# What the published tables say, what other models say, and whether a control shows the same.
@pytest.mark.parametrize(
    ("published_says", "others_say", "control", "outcome"),
    [
        (YES, ABSENT, ABSENT, REPRODUCED),
        (YES, YES, NO, REPRODUCED),
        (YES, UNSURE, UNSURE, REPRODUCED),
        (YES, YES, AS_MUCH, LIKE_CONTROL),
        (YES, YES, MORE, LIKE_CONTROL),
        (YES, NO, MORE, NO_TRANSFER),
        (NO, YES, MORE, NOT),
        (UNSURE, NO, MORE, INCONCLUSIVE),
        (ABSENT, UNSURE, NO, INCONCLUSIVE),
        (ABSENT, NO, NO, NO_TRANSFER),
        (ABSENT, YES, NO, REPRODUCED),
        (ABSENT, ABSENT, MORE, UNTESTABLE),
    ],
)
def test_outcomes_follow_from_answers(published_says, others_say, control, outcome):
    assert decide(published_says, others_say, control) == outcome


# The paper's numbers, to the digits that it prints, and what became of each.
@pytest.mark.parametrize(
    ("name", "found", "outcome"),
    [
        ("r-3b", "-0.864", REPRODUCED),
        ("p-3b", "0.012", INCONCLUSIVE),
        ("r-1b", "-0.676", REPRODUCED),
        ("p-1b", "0.096", REPRODUCED),
        ("ifeval-1b-40", "+46%", REPRODUCED),
        ("ifeval-1b-30", "+75%", REPRODUCED),
        ("ifeval-3b-points", "+3.7 points", INCONCLUSIVE),
        ("mmlu-3b-60", "-53.8%", REPRODUCED),
        ("instruct-ifeval", "-59.9%", REPRODUCED),
        ("mc2-3b-60", "+16.7%", LIKE_CONTROL),
        ("criteria-ppl-1b", "17.50", REPRODUCED),
        ("criteria-lambada-vow", "+9207%", REPRODUCED),
        ("energy-23", "-23%", REPRODUCED),
        ("latency-18", "+18%", LIKE_CONTROL),
    ],
)
def test_the_numbers_of_the_paper(ledger, name, found, outcome):
    assert (ledger[name].found, ledger[name].outcome) == (found, outcome)


# One phenomenon, one rule: rises within their error are treated as falls within theirs.
@pytest.mark.parametrize("name", ["mc1-1b", "winogrande-10", "musr-1b-consistent", "improves-consistently"])
def test_what_is_within_its_error_is_inconclusive_and_says_what_would_settle_it(ledger, name):
    assert ledger[name].outcome == INCONCLUSIVE and re.match(r"[\d,]+ items instead of", ledger[name].settle)


def test_the_ledger_is_large_enough_and_uses_all_outcomes(ledger):
    assert len(ledger) >= 75
    # Grown models are several, so that a no of theirs comes easily; of downloaded ones two have to say it.
    downloaded = [one for one in ledger.values() if not one.claim.grown]
    assert {one.outcome for one in downloaded} == set(OUTCOMES)


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
    changed = Evidence(evidence.measured_table, evidence.floor_table)
    changed.capabilities = other
    found = judge(CLAIMS["ifeval-1b-40"], changed)
    assert (found.outcome, found.found) == (NOT, "+16%")


def test_a_changed_floor_changes_the_verdict(evidence):
    floors = evidence.floor_table.copy()
    for value, outcome, says in ((0.05, REPRODUCED, "it does not"), (0.15, LIKE_CONTROL, "it does as much")):
        floors.loc[floors["task"] == "ifeval", "value"] = value
        found = judge(CLAIMS["ifeval-1b-40"], Evidence(evidence.measured_table, floors))
        assert found.outcome == outcome and found.because.endswith(says)


def test_one_model_alone_decides_no_transfer_in_no_case():
    assert decide(YES, NO, ABSENT, against=1) == INCONCLUSIVE == decide(ABSENT, NO, ABSENT, against=1)
    assert decide(NO, NO, ABSENT, against=1) == NOT


def test_a_fall_that_ends_at_the_floor_is_a_fall(evidence, ledger):
    falls = [one for one in ledger.values() if "ends(" in (one.claim.beside or "")]
    assert len(falls) == 6 and all(one.outcome == REPRODUCED for one in falls)
    assert all("ends not significantly above the floor" in one.because for one in falls)
    nowhere = Evidence(evidence.measured_table, evidence.floor_table.assign(value=0.0))
    assert "ends above the floor" in judge(CLAIMS["mmlu-3b-60"], nowhere).because


def test_the_floor_is_no_control_of_a_fall():
    assert not any(
        "like(" in f"{claim.alike}" and "falls(" in f"{claim.recompute} {claim.holds}"
        for claim in CLAIMS.values()
    )


@pytest.fixture(scope="module")
def still(evidence):
    """Evidence in which no published score moves."""
    table = published("capabilities")
    whole = table[table["pruning_pct"] == 0].set_index(["model", "task", "metric"])["value"]
    same = whole.reindex(pd.MultiIndex.from_frame(table[["model", "task", "metric"]])).to_numpy()
    world = Evidence(evidence.measured_table.iloc[:0], evidence.floor_table)
    world.capabilities = table.assign(value=same)
    return world


@pytest.mark.parametrize("name", [name for name, claim in CLAIMS.items() if claim.recompute])
def test_no_rule_breaks_on_scores_that_do_not_move(still, name):
    found = judge(CLAIMS[name], still)
    assert found.outcome in OUTCOMES
    if name in ("r-3b", "p-3b", "r-1b", "p-1b"):
        assert (found.published, found.outcome) == (UNSURE, INCONCLUSIVE)


def test_a_correlation_is_settled_by_widths(ledger):
    points = re.match(r"(\d+) points instead of 7 \(widths, MMLU with ", ledger["p-3b"].settle)
    assert points and 10 < int(points[1]) < 20


def measured(models=("base", "other"), **perplexities):
    """Measured perplexities of WikiText at 10% under each criterion, the same for every model."""
    rows = [
        dict(model=model, criterion=name, pruning_pct=0 if name == "none" else 10, task="wikitext", metric="word_perplexity",
             value=value, stderr=1.0, n=17, seed=0, num_fewshot=0, dtype="auto", chat_template=False)
        for model in models
        for name, value in ({"none": 20.0} | perplexities).items()
    ]  # fmt: skip
    return tidy(pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("perplexities", "outcome", "holds"),
    [
        (dict(PPM=50.0, VOW=90.0, PON=80.0, RANDOM=70.0), REPRODUCED, YES),
        (dict(PPM=50.0, VOW=90.0, PON=80.0, RANDOM=40.0), LIKE_CONTROL, YES),
        (dict(PPM=50.0, VOW=90.0, PON=40.0, RANDOM=70.0), NO_TRANSFER, NO),
        (dict(PPM=50.0, VOW=90.0, PON=49.0, RANDOM=70.0), REPRODUCED, UNSURE),
        (dict(PPM=5000.0, VOW=90000.0, PON=4000.0), REPRODUCED, "not yet"),  # all broken: they say nothing
        (dict(RANDOM=70.0), REPRODUCED, "not yet"),
    ],
)
def test_measured_results_change_the_verdict(evidence, perplexities, outcome, holds):
    found = judge(CLAIMS["criteria-wikitext"], Evidence(measured(**perplexities), evidence.floor_table))
    assert (found.outcome, found.measured) == (outcome, holds)


@pytest.mark.parametrize(
    ("random", "says"), [(40.0, "it does more"), (50.0, "it does as much"), (70.0, "it does not")]
)
def test_the_row_says_what_a_control_does(evidence, random, says):
    table = measured(PPM=50.0, VOW=90.0, PON=80.0, RANDOM=random)
    found = judge(CLAIMS["criteria-wikitext"], Evidence(table, evidence.floor_table))
    assert f": {says} (base " in found.because


@pytest.mark.parametrize("name", CLAIMS)
def test_a_row_reports_no_control_of_models_that_it_did_not_consult(ledger, name):
    """Names of models after a control are those whose answers to the claim stand in the row."""
    answered = set(re.findall(r"([\w.-]+): (?:yes|no|cannot tell)(?:[,;]|$)", ledger[name].protocol))
    named = set(
        re.findall(r"[(,] ?([\w.-]+) (?:does as much|does more|no|cannot tell)(?=[,)])", ledger[name].because)
    )
    assert named <= answered
    assert all(f"control, {control}: " in ledger[name].because for control, rule in CLAIMS[name].controls if rule
               and ledger[name].outcome != UNTESTABLE)  # fmt: skip


def third(task="lambada_openai", values=(20.0, 60.0, 90.0, 120.0, 150.0, 180.0, 210.0)):
    """A model of which one perplexity was measured, at every width, under the paper's criterion and two others at 10%."""
    rows = [
        ("none" if pct == 0 else "PPM", pct, value)
        for pct, value in zip(range(0, 70, 10), values, strict=True)
    ]
    rows += [("VOW", 10, 30000.0), ("PON", 10, 30000.0)]
    return tidy(pd.DataFrame([
        dict(model="a third", criterion=criterion, pruning_pct=pct, task=task, metric=TASKS[task].metric, value=value,
             stderr=value / 50, n=200, seed=0, num_fewshot=0, dtype="auto", chat_template=False)
        for criterion, pct, value in rows
    ]))  # fmt: skip


def test_a_model_of_which_lambada_alone_was_measured_counts_nowhere(evidence, ledger):
    table = pd.concat([evidence.measured_table, third()], ignore_index=True)
    world = Evidence(table, evidence.floor_table, grown=evidence.grown_table)
    assert world.widths("a third") == world.broken("a third") == []
    assert world.damage("a third") == "not compared with word frequencies"
    for name, claim in CLAIMS.items():
        found = judge(claim, world)
        assert (found.outcome, found.measured) == (ledger[name].outcome, ledger[name].measured)
        assert ("a third" in found.protocol) == bool(claim.measured and not claim.only)


def test_a_model_counts_where_it_was_measured_and_nowhere_else(evidence, ledger):
    tables = [evidence.measured_table, third(), third("pocket_prose")]
    table = pd.concat(tables, ignore_index=True)
    world = Evidence(table, evidence.floor_table, grown=evidence.grown_table)
    assert world.widths("a third") == [10, 20, 30, 40, 50, 60]
    answers = {"perplexity-monotone": UNSURE, "criteria-lambada": YES}
    for name, claim in CLAIMS.items():
        found = judge(claim, world)
        assert (found.outcome, found.measured) == (ledger[name].outcome, ledger[name].measured)
        answer = re.search(r"a third: (yes|no|cannot tell),", found.protocol)
        assert (answer and answer[1]) == answers.get(name)
    assert "yes, a third yes, gemma3-270m yes" in judge(CLAIMS["criteria-lambada"], world).because


@pytest.mark.parametrize(("texts", "answer"), [
    (dict(lambada_openai=(20.0, 60.0, 30.0, 60.0, 90.0, 120.0, 150.0)), NO),
    (dict(lambada_openai=(20.0, 60.0, 90.0, 120.0, 150.0, 180.0, 210.0)), UNSURE),
    (dict(lambada_openai=(20.0, 60.0, 90.0, 120.0, 150.0, 180.0, 210.0),
          wikitext=(20.0, 60.0, 90.0, 120.0, 150.0, 180.0, 210.0)), YES),
])  # fmt: skip
def test_one_text_can_contradict_what_is_said_of_both_and_not_bear_it_out(evidence, texts, answer):
    tables = [third("pocket_prose"), *(third(text, values) for text, values in texts.items())]
    world = Evidence(pd.concat(tables, ignore_index=True), evidence.floor_table)
    assert judge(CLAIMS["perplexity-monotone"], world).measured == answer


def test_a_width_that_was_not_measured_is_left_out_of_the_steps(evidence):
    table = pd.concat([third(), third("pocket_prose")], ignore_index=True)
    table = table[
        (table["task"] != "lambada_openai")
        | ~((table["criterion"] == "PPM") & table["pruning_pct"].isin([20, 30]))
    ]
    steps = Evidence(table, evidence.floor_table).steps("a third", "lambada_openai")
    assert [step.label.split("PPM ")[1] for step in steps] == [
        "from 0 to 10%", "from 10 to 40%", "from 40 to 50%", "from 50 to 60%"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["r-3b", "r-1b"])
def test_a_control_that_so_few_widths_cannot_ask_says_how_many_it_takes(evidence, ledger, name):
    takes = int(re.search(r"at n = 7 .* it takes more than (\d+) widths", ledger[name].because)[1])
    effect = evidence.beyond_ratio(name[-2:].upper(), "mmlu", "truthfulqa_mc2")
    answers = [
        evidence.rule.compare(replace(effect, change=0.0, stderr=(n - 4) ** -0.5, p=1.0))
        for n in (takes, takes + 1)
    ]
    assert answers == [UNSURE, AS_MUCH]


def test_several_controls_are_judged_apart(evidence):
    floor = evidence.floor_table.assign(value=0.0)  # a responder that knows nothing is below every score
    say = judge(CLAIMS["selective-filter"], Evidence(evidence.measured_table, floor)).because
    assert "better in IFEval: it does not; control, removing random neurons, which select nothing: " in say


def test_what_one_model_alone_contradicts_is_inconclusive_and_says_so(evidence):
    table = measured(["base"], PPM=50.0, VOW=90.0, PON=40.0, RANDOM=70.0)
    found = judge(CLAIMS["criteria-wikitext"], Evidence(table, evidence.floor_table))
    assert (found.outcome, found.settle) == (INCONCLUSIVE, "a second model that says no, too")
    assert "no (one model), base no" in found.because


def test_every_verdict_says_what_decided(ledger):
    assert all(one.because for one in ledger.values())
    assert all("on the models measured here: " in one.because for one in ledger.values()
               if one.claim.measured and one.outcome != UNTESTABLE)  # fmt: skip


def test_models_that_disagree_decide_nothing_and_any_model_counts(evidence):
    good, bad = dict(PPM=50.0, VOW=90.0, PON=80.0), dict(PPM=50.0, VOW=90.0, PON=30.0)
    table = pd.concat([measured(["a new model"], **good), measured(["another"], **bad)], ignore_index=True)
    found = judge(CLAIMS["criteria-wikitext"], Evidence(table, evidence.floor_table))
    assert (
        found.measured == UNSURE and "a new model: yes" in found.protocol and "another: no" in found.protocol
    )


def test_the_row_says_how_it_was_measured_and_where_the_model_works(ledger):
    protocol = ledger["ifeval-measured"].protocol
    assert re.search(r"gemma3-270m: no, IFEval \(.*100 items, without template, paired\)", protocol)
    assert (
        "better than word frequencies at 10, 20%, not at 30, 40, 50, 60%" in ledger["ifeval-measured"].damage
    )
    assert "smollm2-135m-instruct: no answer" in protocol  # broken from 10% on


def test_instruct_claims_are_asked_of_instruct_models_alone(ledger):
    assert (
        "gemma" not in ledger["instruct-ifeval"].protocol and "smollm2" in ledger["instruct-ifeval"].protocol
    )


def test_a_claim_that_nothing_answers_says_what_it_would_take(evidence, ledger):
    assert ledger["llama-measured"].outcome == UNTESTABLE
    assert "access to the weights" in ledger["llama-measured"].because
    nothing = Evidence(measured(), evidence.floor_table)
    found = judge(CLAIMS["regularization"], nothing)
    assert found.outcome == UNTESTABLE


def test_every_claim_names_a_chapter_of_the_book():
    toc = (ROOT / "_toc.yml").read_text()
    assert all(f"notebooks/{claim.chapter}" in toc for claim in CLAIMS.values())


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


def test_the_committed_results_are_read(there, monkeypatch):
    """All claims are judged, on the results of the folder that is named."""
    monkeypatch.setattr("widthprune.audit.ledger.Ledger", {ROOT / "results": there}.__getitem__)
    assert [one.claim.id for one in judge_all(ROOT / "results")] == list(CLAIMS)
    assert len(there.evidence.measured_table) == len(load_results(ROOT / "results"))


def shown_by(path, ledger, monkeypatch):
    """What the last cell of a notebook displays: boxes, the rows of its table, and a paragraph."""
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]
    (cell,) = [cell for cell in cells if "ledger.show(" in cell]
    # As in the book, which measures nothing.
    exec(cell, {"results_dir": ROOT / "results", "measure": False, "ledger": ledger})
    boxes = [one for one in shown if isinstance(one, Verdict)]
    tables = [one.data for one in shown if hasattr(one, "data") and isinstance(one.data, pd.DataFrame)]
    rows = {
        row["name"]: (row["verdict"], row.get("found", ""))
        for table in tables
        for row in table.to_dict("records")
    }
    said = [one.data for one in shown if isinstance(one, Markdown)]
    return boxes, rows, said[-1] if said else ""


@pytest.fixture(scope="module")
def front_page(ledger):
    """Outcome and number of every claim as the front page has them: read from its HTML."""
    text = to_html(ledger.values(), {claim.chapter: "" for claim in CLAIMS.values()})
    rows = re.findall(r"<tr id='([\w-]+)'.*?</td><td>.*?</td><td>(.*?)</td><td><span[^>]*>(.*?)</span>", text)
    return {name: (outcome, html.unescape(found)) for name, found, outcome in rows}


def test_a_chapter_shows_what_the_front_page_says_and_every_claim_is_shown_in_its_own(
    front_page, there, monkeypatch
):
    assert set(front_page) == set(CLAIMS)
    for path in NOTEBOOKS:
        boxes, rows, right = shown_by(path, there, monkeypatch)
        for box in boxes:
            text = box._repr_mimebundle_()["text/markdown"]
            outcome, found = front_page[box.id]
            assert text.startswith(f"**Verdict: {outcome}.** ") and box.measured.startswith(
                found.split(" (on ")[0]
            )
        for name, (outcome, found) in rows.items():
            assert front_page[name][0] == outcome and front_page[name][1].startswith(found)
        own = {name for name, claim in CLAIMS.items() if claim.chapter == path.stem}
        assert own == {box.id for box in boxes if box.id in own} | set(rows) and len(boxes) > 1
        # Of chapters on the open questions the paper's own tables answer nothing.
        asked = any(CLAIMS[name].recompute for name in own)
        assert right.startswith("**What the paper gets right.** Of ") if asked else right == ""
        text = path.read_text()
        assert "grade(" not in text and not any(f'"{outcome}"' in text for outcome in OUTCOMES)


def test_a_sentence_speaks_of_tables_where_there_are_some_and_names_the_control(ledger):
    for one in ledger.values():
        said = in_words(one)
        if one.outcome != UNTESTABLE:
            assert ("own tables" in said) == (one.published != ABSENT), one.claim.id
        assert (f"but {one.rivals} do" in said) == (one.outcome == LIKE_CONTROL), one.claim.id


def test_a_chapter_opens_with_the_verdicts_it_ends_with():
    ledger = Ledger("nowhere")
    text = ledger.summary("04_truthfulness", "r-3b", "p-3b")
    rows = [line for line in text.splitlines() if line.startswith("- ")]
    outcomes = [ledger.judge(name).outcome.capitalize() for name in ("r-3b", "p-3b")]
    assert [row.split("**")[1] for row in rows] == [f"{outcome}." for outcome in outcomes]
    own = [name for name, claim in CLAIMS.items() if claim.chapter == "04_truthfulness"]
    said = text.splitlines()[-1]
    assert said.startswith(f"{len(own)} claims of this chapter: ")
    assert sum(int(part.split()[0]) for part in said.split(": ")[1].split(". ")[0].split("; ")) == len(own)


def test_a_book_whose_chapter_differs_from_its_front_page_is_not_built(ledger, there, tmp_path):
    sys.path.insert(0, str(ROOT / "book"))
    from build import disagreements

    def executed(*verdicts):
        outputs = [{"data": verdict._repr_mimebundle_()} for verdict in verdicts]
        (tmp_path / "07.ipynb").write_text(json.dumps({"cells": [{"outputs": outputs}]}))
        return [tmp_path / "07.ipynb"]

    one = there.verdict("energy-23")
    assert disagreements(ledger.values(), executed(one)) == []
    (said,) = disagreements(ledger.values(), executed(replace(one, outcome=NOT)))
    assert said == f"07 calls energy-23 {NOT}, and the front page {REPRODUCED}"


@pytest.mark.parametrize("name", [name for name, claim in CLAIMS.items() if claim.measured])
def test_a_measured_verdict_says_where_each_model_is_still_better_than_word_frequencies(
    evidence, ledger, there, name
):
    asked = [model for model in evidence.models() if CLAIMS[name].only in model]
    shown = there.verdict(name)._repr_mimebundle_()["text/markdown"]
    for model in asked:
        assert f"{model}, {evidence.damage(model)}" in ledger[name].damage
    assert asked and "- Damage: " in shown and "word frequencies" in shown


@pytest.mark.parametrize("chapter", ["03_capabilities", "04_truthfulness", "06_instruct"])
def test_a_chapter_that_measures_says_what_damage_it_measures(there, chapter):
    assert "ledger.damage(" in (ROOT / "notebooks" / f"{chapter}.ipynb").read_text()
    said = there.damage("smollm2-135m-instruct", "gemma3-270m", "no such model", "/models/gemma3-270m/")
    said = said.replace("\\", "")  # names of models are strings of results files
    smollm2 = "better than word frequencies at 1, 2, 3%, not at 5, 7, 10, 20, 30, 40, 50, 60%"
    assert f"smollm2-135m-instruct is {smollm2}" in said
    assert "gemma3-270m is better than word frequencies at 10, 20%, not at 30, 40, 50, 60%" in said
    assert "no such" not in said and said.count("gemma3-270m is") == 1  # a model, by its public name and once


@pytest.mark.parametrize("chapter", sorted({claim.chapter for claim in CLAIMS.values()}))
def test_what_the_paper_gets_right_is_counted_and_short(ledger, there, chapter):
    asked = [one for one in ledger.values() if one.claim.chapter == chapter and one.published]
    right, but = ([one for one in asked if one.outcome == kind] for kind in (REPRODUCED, LIKE_CONTROL))
    text = there.gets_right(chapter)
    if not asked:
        assert text == ""
        return
    claims = "claim" if len(asked) == 1 else "claims"
    assert f"Of {len(asked)} {claims} of this chapter that its own tables can answer, {len(right)} " in text
    assert (f"of {len(but)} more" in text) == bool(but) and len(text) < 1200
    for one in asked:
        # In whole: what qualifies a claim stands at its end.
        assert one.claim.printed is not None or (one.claim.claim in text) == (one in right)


def test_an_id_that_is_no_claim(there):
    with pytest.raises(WidthPruneError, match="claim must be an id of claims.yaml, got 'energy-24'"):
        there.judge("energy-24")


def test_without_results_the_published_tables_answer(tmp_path):
    alone = Ledger(tmp_path / "nothing")
    assert alone.judge("energy-23").outcome == REPRODUCED
    assert alone.judge("ifeval-measured").outcome == UNTESTABLE


def test_how_many_verdicts_hang_on_each_rule(evidence, ledger):
    asked = [CLAIMS[name] for name in ("p-3b", "ifeval-1b-30", "dichotomy", "energy-23")]
    changes = sensitivity(evidence, asked).set_index("variant")
    by = {
        "three": "ifeval-1b-30",
        "no correction": "p-3b",
        "floors": "ifeval-1b-30",
        "without gemma": "dichotomy",
    }
    for start, name in by.items():
        (row,) = changes[changes.index.str.startswith(start)].to_dict("records")
        assert row["of"] == 4 and f"{name}: {ledger[name].outcome} → " in row["which"]
        assert row["changed"] == row["which"].count("→") < 4
    assert (changes.index.str.startswith("without ")).sum() == len(evidence.models())


@pytest.mark.parametrize("name", CLAIMS)
def test_no_rule_has_a_threshold_of_its_own(name):
    """Else three standard errors instead of two, or another margin, would not reach it."""
    claim = CLAIMS[name]
    rules = [claim.recompute, claim.holds, claim.measured, claim.grown, *(rule for _, rule in claim.controls)]
    assert not any(re.search(r"\.z\b|\.stderr\b|error\(|_sd\(|\b0\.25\b", rule or "") for rule in rules)


def test_a_larger_margin_and_a_stricter_threshold_reach_the_widths_too(evidence):
    gemma = "gemma3-270m"
    assert evidence.widths(gemma) == [10, 20] and evidence.vary(sigmas=9.0).widths(gemma) == [10]
    assert evidence.vary(margin=0.1).rule.margin == 0.1 and evidence.rule.margin == 0.25
    loss = [Effect(-0.15, 0.01, 1.0, 100)]
    assert evidence.vary(margin=0.5).rule.some_rise(*loss) == evidence.rule.some_rise(*loss) == NO
    flat = [Effect(-0.01, 0.06, 1.0, 100)]
    assert [evidence.vary(margin=m).rule.keeps(*flat) for m in (0.1, 0.25)] == [UNSURE, YES]


@pytest.mark.parametrize(
    "change",
    [
        dict(sigmas=9.0),
        dict(holm=False, margin=0.5),
        dict(without="smollm2-135m-instruct", floor_kinds=("blind", "reading")),
    ],
    ids=lambda change: "-".join(change),
)
def test_what_copies_share_holds_for_each_of_them(evidence, ledger, change):
    """A cached answer that hung on the rule, the floors or the models would be another copy's."""
    assert len(ledger) == len(CLAIMS)  # so that the caches hold what other rules gave
    shared = evidence.vary(**change)
    fresh = Evidence(evidence.measured_table, load_floors(), grown=evidence.grown_table).vary(**change)
    for claim in CLAIMS.values():
        assert judge(claim, shared) == judge(claim, fresh), claim.id


def test_every_claim_states_how_it_is_judged():
    claims = load_claims()
    assert len({claim.id for claim in claims}) == len(claims)
    for claim in claims:
        assert claim.recompute or claim.measured or claim.grown or claim.needs, claim.id
        assert (claim.printed is None) == (claim.tolerance is None), claim.id
        # Every control has its rule.
        assert bool(claim.alike) == bool(claim.control) and claim.controls, claim.id


@pytest.mark.parametrize(
    "rule", ["chnge('1B', 'mmlu', 40)", "change('1B'", "open('x')", "change('7B', 'mmlu', 40)"]
)
def test_a_rule_that_cannot_be_evaluated_is_named(evidence, rule):
    claim = Claim("a", "g", "c", "w", "01_architecture", rule)
    with pytest.raises(WidthPruneError, match="claims.yaml: a: recompute cannot be evaluated"):
        judge(claim, evidence)
