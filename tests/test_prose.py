"""No number in prose is typed that a table could give; those that the pages compute are there, and say what is true."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from widthprune import WidthPruneError
from widthprune.audit.evidence import Evidence, NoEvidence
from widthprune.audit.floors import load_floors
from widthprune.audit.ledger import judge, load_claims
from widthprune.evaluation.grid import PAPER_PCTS
from widthprune.report.results import load_results, one_sweep
from widthprune.report.tasks import headline

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "book"))
from numbers_in_pages import compute_numbers, fill_pages  # noqa: E402

PAGES = sorted((ROOT / "book").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NUMBER = r"[+-]?\d[\d,.]*\d%?|\d%?"
# What is no prose: code, formulas, what is computed, links' targets, roles, raw HTML, the numbers of a list.
NOT_PROSE = [
    r"^ *```.*?^ *```",
    r"`[^`\n]*`",
    r"\$[^$]+\$",
    r"\{\{ [\w-]+ \}\}",
    r"\]\([^)]*\)",
    r"\{[\w:]+\}",
    r"<[^>\n]*>",
    r"^ *\d+\. ",
]
# Digits that are no measurement: why, and what they look like.
ALLOWED = {
    "a word with digits in it is a name: MC2, GPT-2, v1, Llama-3.2-1B, SmolLM2": r"\b[A-Za-z][\w./-]*\d[\w./-]*",
    "the paper's models are named by their size": r"\b[13]B\b(-Instruct)?",
    "a ratio names a width, d_ff / d_model": r"\b\d+(\.\d+)?x(?!\w)",
    "a percentage of the paper's grid names a width": r"\b(?:[1-6]?0(?:,| and| or| to) )*[1-6]?0%",
    "a year, or a date": r"\b20[0-3]\d(-\d\d-\d\d)?\b",
    "an arXiv identifier": r"\b\d{4}\.\d{5}\b",
    "a chapter, section or table": r"\b([Cc]hapter|[Ss]ection|[Tt]able)s? \d+(\.\d+)*",
    "a version of software": r"\b\d+\.\d+\.\d+\b|\b(SLURM|Debian|Python,?) \d+(\.\d+)?",
    "a format of weights": r"\b4-bit\b",
    "a level of confidence is chosen": r"\b95%",
    "a setting is chosen": r"\b(multiples? of|batch|batches of) \d+((, \d+)* (and|or) \d+)?",
}


def typed_numbers(markdown):
    """Numbers of a markdown text that are neither computed nor allowed."""
    for pattern in [*NOT_PROSE, *ALLOWED.values()]:
        markdown = re.sub(pattern, " ", markdown, flags=re.DOTALL | re.MULTILINE)
    return re.findall(NUMBER, markdown)


def cells(path):
    """Markdown of a notebook, without what it quotes as the claim."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            parts = "".join(cell["source"]).split("\n\n")
            yield "\n\n".join(part for part in parts if not part.startswith("**The claim.**"))


@pytest.mark.parametrize(
    ("markdown", "found"),
    [
        ("IFEval rises by 46% in 2024 at 2.4x (v1, section 4.2, arXiv 2512.22671).", ["46%"]),
        ("MC2 of the 1B model is 0.45 at 10, 20 and 30%; see [2](2.md), `x = 3`, $m^2$.", ["0.45", "2"]),
        ("p = {{ p-3b }} over 5,040 orders, r = -0.864", ["5,040", "-0.864"]),
        ("```\nlimit 200\n```\n1. Llama-3.2-1B takes 4 s", ["4"]),
        ("Rounded to a multiple of 8, 64 or 128; the 95% interval of 817 questions", ["817"]),
    ],
)
def test_the_finder_by_hand(markdown, found):
    assert typed_numbers(markdown) == found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_number_is_typed_into_a_page(page):
    assert typed_numbers(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_number_is_typed_into_a_markdown_cell(path):
    assert [number for cell in cells(path) for number in typed_numbers(cell)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_claim_quotes_what_the_paper_prints(path):
    printed = {abs(claim.printed) for claim in load_claims() if claim.printed is not None}
    for name in ("criteria", "architectures"):
        table = pd.read_csv(ROOT / "widthprune" / "published_tables" / f"{name}.csv")
        printed |= set(table.select_dtypes("number").to_numpy().ravel())
    first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    (claim,) = [part for part in first.split("\n\n") if part.startswith("**The claim.**")]
    assert {abs(float(n.rstrip("%").replace(",", ""))) for n in typed_numbers(claim)} <= printed


# The pages' own numbers.


@pytest.fixture(scope="module")
def evidence():
    return Evidence(load_results(ROOT / "results"), load_floors())


def test_pages_and_numbers_name_each_other(tmp_path):
    named = yaml.safe_load((ROOT / "book" / "numbers.yml").read_text(encoding="utf-8"))
    asked = {name for page in PAGES for name in re.findall(r"\{\{ ([\w-]+) \}\}", page.read_text())}
    assert asked == set(named)
    numbers = compute_numbers(ROOT / "results")
    assert set(numbers) == asked and all(re.search(r"\d", text) for text in numbers.values())
    page = tmp_path / "page.md"
    page.write_text("At {{ ratio-3b }} times.")
    fill_pages([page], numbers)
    assert page.read_text() == "At 2.67 times."
    page.write_text("{{ nothing }}")
    with pytest.raises(WidthPruneError, match="page.md asks for nothing, which numbers.yml does not name"):
        fill_pages([page], numbers)


def test_a_number_that_cannot_be_computed(tmp_path):
    with pytest.raises(WidthPruneError, match="numbers.yml: ifeval-empty cannot be computed: .*smollm2"):
        compute_numbers(tmp_path)


def test_the_front_page_on_the_floors_of_instructions(evidence):
    e = evidence
    blind, echo = e.floor("ifeval"), e.floor("ifeval", "prompt echoed 8 times")
    assert max(e.value(model, "ifeval", 0) for model in ("1B", "3B")) < blind < echo
    assert max(e.value(model, "ifeval", pct) for model in ("1B", "3B") for pct in PAPER_PCTS) < echo


@pytest.mark.parametrize("task", ["pocket_prose", "wikitext", "pocket_facts"])
def test_the_front_page_on_each_draw_of_random_neurons(task, evidence):
    table = evidence.measured_table
    table = table[(table["model"] == "smollm2-135m-instruct") & (table["task"] == task)]
    table = table[table["criterion"].isin(["none", "PPM", "RANDOM"]) & table["pruning_pct"].isin([0, 10])]
    rows = headline(one_sweep(table)).set_index("criterion")["value"]
    draws, ppm = rows["RANDOM"], rows["PPM"]
    assert len(draws) == 3
    # Perplexity is lower under each draw; on facts the draws lie on either side.
    assert draws.min() < ppm < draws.max() if task == "pocket_facts" else draws.max() < ppm


def test_the_front_page_on_damage_and_on_the_width_at_which_the_criterion_wins(evidence):
    e, small, gemma = evidence, "smollm2-135m-instruct", "gemma3-270m"
    assert e.widths(small) == [1.0, 2.0, 3.0] and e.broken(small) == [5.0, 7.0, *PAPER_PCTS[1:]]
    assert e.compared(gemma, "pocket_prose", "PPM", "RANDOM", 20).z > 2
    with pytest.raises(NoEvidence, match="not shown to be better than word frequencies at 20%"):
        e.better(gemma, "pocket_prose", "PPM", "RANDOM", 20)
    assert all(e.better(gemma, text, "RANDOM", "PPM", 10).z > 2 for text in ("wikitext", "pocket_prose"))


def test_the_front_page_on_rises_that_are_more_than_their_error_and_no_more_than_the_blind_floor(evidence):
    ids = ("ifeval-1b-40", "ifeval-3b-40", "ifeval-1b-points", "ifeval-range")
    judged = [judge(claim, evidence) for claim in load_claims() if claim.id in ids]
    assert [one.outcome for one in judged] == ["reproduced"] * 4
    assert all("(the blind floor): cannot tell" in one.because and "prompt-reading floor" in one.because
               for one in judged)  # fmt: skip


def test_the_front_page_on_what_has_to_be_made(evidence):
    kinds = ("number_highlighted_sections", "number_bullet_lists")
    for kind in kinds:
        shares = [
            evidence.measured("smollm2-135m-instruct", "ifeval", "PPM", pct, f"share_detectable_format:{kind}",
                              chat_template=True)
            for pct in PAPER_PCTS[1:]
        ]  # fmt: skip
        assert max(shares) > 0
