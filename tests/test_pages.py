"""Pages that are made of data: they show all rows and nothing else, and no name or answer is markup."""

import io
import json
import re
import sys
import zipfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from docutils import nodes
from docutils.utils import new_document
from myst_nb.sphinx_ import HideCodeCellNode

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "book"), str(ROOT / "book" / "extensions")]

import pages  # noqa: E402
from answers import ANSWERS, MODEL, STATES, TEMPLATES, Request, answers_page, as_records, read_requests  # noqa: E402
from changes import changes_page, corrections, moved  # noqa: E402
from data_pages import prompts, write_explorer  # noqa: E402
from downloads import save_answers, save_archive, save_tables  # noqa: E402
from explorer import explorer_data, explorer_page  # noqa: E402
from figures import chapter_figures, check_lines  # noqa: E402
from measure_answers import REQUESTS  # noqa: E402
from run_book import write_answers  # noqa: E402
from shown import shown_results  # noqa: E402

from widthprune import WidthPruneError, load_results  # noqa: E402
from widthprune.evaluation.samples import write_samples  # noqa: E402
from widthprune.report.escaping import as_html, as_myst  # noqa: E402
from widthprune.report.line_labels import MOST, label_lines  # noqa: E402
from widthprune.report.published import published  # noqa: E402
from widthprune.report.results import load_profiles  # noqa: E402
from widthprune.report.runs import read_run, write_run  # noqa: E402

HOSTILE = "</script><script>alert(1)</script>\x1b[31m\u202e```{{ x }}`"


@pytest.fixture(scope="module")
def table():
    return shown_results(ROOT / "results")


@pytest.fixture(scope="module")
def data(table):
    return explorer_data(table)


def test_what_is_shown_is_what_was_published_and_measured_here(table):
    measured = load_results(ROOT / "results")
    assert len(table) == len(measured) + len(published("capabilities")) + len(published("criteria"))
    assert table["contributor"].isna().all() and set(table["source"]) == {"published", "measured"}
    assert table["expansion_ratio"].notna().all()


def test_every_row_is_on_a_line_of_the_explorer(table, data):
    drawn = {
        (task, metric, data["lines"][line]["model"], pct, value)
        for task, by_metric in data["points"].items()
        for metric, rows in by_metric.items()
        for line, pct, _, value, *_ in rows
    }
    finite = table[np.isfinite(table["value"])]
    keys = finite[["task", "metric", "model", "pruning_pct", "value"]].itertuples(index=False)
    assert drawn >= {(t, m, model, pct, float(f"{value:.6g}")) for t, m, model, pct, value in keys}


def test_a_line_has_one_point_a_width_and_a_name_of_its_own(data):
    for by_metric in data["points"].values():
        for rows in by_metric.values():
            points = [(data["lines"][line]["name"], pct) for line, pct, *_ in rows]
            assert len(points) == len(set(points))


def test_the_first_choice_of_the_explorer_exists(data):
    first = data["first"]
    models, criteria = ({line[key] for line in data["lines"]} for key in ("model", "criterion"))
    assert (
        first["task"] in data["tasks"]
        and set(first["model"]) <= models
        and set(first["criterion"]) <= criteria
    )


def test_a_name_is_no_markup(table):
    row = table[table["source"] == "measured"].head(1).assign(model=HOSTILE)
    page = explorer_page(row)
    assert "<script>alert" not in page and "\x1b" not in page and "\u202e" not in page
    text = re.search(r'<script id="explorer-data" type="application/json">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(text)["lines"][0]["model"] == HOSTILE


def request(text, held=(True, False), number=1):
    kinds = ("detectable_format:title", "punctuation:no_comma")
    answers = {
        (state, template): (text, dict(zip(kinds, held, strict=True)))
        for state in STATES.values()
        for template in TEMPLATES
    }
    return Request(number, f"Write. {HOSTILE}", answers)


def test_an_answer_is_text_with_its_control_characters_shown():
    page = answers_page([request(f"one\n{HOSTILE}\r\ttwo\0")])
    assert "<script>alert" not in page and not set(page) & set("\x1b\u202e\r\0")
    assert "\\x1b[31m\\u202e" in page and "one\n&lt;/script&gt;" in page and "\\r\\ttwo\\x00" in page
    # No fence of backticks ends the raw HTML, which has one at its begin and one at its end.
    assert page.count("```") == 2
    assert "✓ followed</span> a title" in page and "✗ not followed</span> no comma" in page
    assert "<em>nothing</em>" in answers_page([request(" \n")])


def test_flips_are_counted_against_the_model_that_was_asked_alike():
    one = request("text", (True, True))
    assert one.flips() == 0
    key = (STATES[MODEL, "PPM", 40], True)
    changed = Request(1, "Write.", one.answers | {key: ("text", {"punctuation:no_comma": False})})
    assert changed.flips() == 1 and not changed.passed(*key)
    whole = ("unpruned", False)
    changed = Request(1, "Write.", one.answers | {whole: ("text", {"punctuation:no_comma": False})})
    # Not the one that was never trained, which nothing was pruned from.
    assert changed.flips() == len(STATES) - 2


def test_answers_that_are_not_kept_are_said_to_be_missing(tmp_path):
    assert read_requests(tmp_path, []) == [] and "None are kept yet" in answers_page([])
    one, gone = request("text", (True, True)), ("never trained", False)
    page = answers_page([Request(1, "Write.", {key: x for key, x in one.answers.items() if key != gone})])
    # Among the counts, among the marks of its request, and in the answer's place.
    assert "| never trained | 1 of 1 | not measured yet |" in page and page.count("not measured yet") == 3


def test_a_requests_marks_are_of_every_way_of_asking():
    one, key = request("text", (True, True)), (STATES[MODEL, "PPM", 40], False)
    changed = one.answers | {key: ("text", {"punctuation:no_comma": False})}
    summary = answers_page([Request(1, "Write.", changed)]).partition("</summary>")[0]
    assert "✗" in summary and all(f"{way.capitalize()}: unpruned" in summary for way in TEMPLATES.values())


def keep_answers(folder, criterion, pct, held, text="two", **changed):
    """Samples of two requests beside a result of the committed ones, the second as ``held`` says."""
    found = (ROOT / "results" / MODEL).glob(f"{criterion}-{pct}pct-pocket_instructions-*.json")
    runs = [run for run in map(read_run, found) if "diagnostics" not in run["settings"]]
    run = next(run for run in runs if "chat_template" not in run["settings"])
    run["settings"] |= changed
    shared = {"leaf": "pocket_instructions", "filter": "none", "instructions": ["punctuation:no_comma"]}
    answers = [(0, "one", True), (7, text, held)]
    records = [shared | {"doc_id": i, "generated": x, "inst_level_strict_acc": [y]} for i, x, y in answers]
    write_samples(folder, run["settings"], records)
    write_run(folder, run["settings"], run["metrics"], run["provenance"])
    return STATES[MODEL, criterion, pct]


def test_answers_are_read_with_their_requests_and_flips_come_first(tmp_path):
    keep_answers(tmp_path, "none", 0, True)
    requests = read_requests(tmp_path, prompts())
    assert [one.number for one in requests] == [1, 8] and requests[1].prompt == prompts()[7]
    assert requests[1].passed("unpruned", False) and requests[1].passed("unpruned", True) is None
    state = keep_answers(tmp_path, "PPM", 40, False)
    requests = read_requests(tmp_path, prompts())
    assert [(one.number, one.flips()) for one in requests] == [(8, 1), (1, 0)]
    assert requests[0].answers[state, False] == ("two", {"punctuation:no_comma": False})


def test_a_rerun_shows_the_answers_that_it_kept(tmp_path):
    """Of every benchmark with checks, at any width; names and answers of others are text."""
    keep_answers(tmp_path / "results", "none", 0, True)
    keep_answers(tmp_path / "results", "PPM", 40, False, HOSTILE, pruning_pct=34.2)
    keep_answers(tmp_path / "results", "none", 0, True, task="ifeval")
    names = write_answers(tmp_path / "results", HOSTILE, stage(tmp_path))
    assert names == ["answers_ifeval", "answers_pocket_instructions"]
    ifeval, pocket = ((tmp_path / "book" / f"{name}.md").read_text() for name in names)
    assert "| unpruned | 2 of 2 |" in pocket and f"| {as_myst('PPM, 34.2% removed')} | 1 of 2 |" in pocket
    assert as_html(prompts()[7]) in pocket and "Request 8" in ifeval and "in the chat template" not in pocket
    for page in (ifeval, pocket):
        assert "<script>alert" not in page and not set(page) & set("\x1b\u202e") and page.count("```") == 2
    saved = json.loads((tmp_path / "data" / "answers.json").read_text())
    assert len(saved) == 6 and HOSTILE in {one["answer"] for one in saved}
    assert write_answers(tmp_path / "none", "model", stage(tmp_path / "empty")) == []


def test_the_answers_kept_are_those_that_were_scored():
    requests = read_requests(ANSWERS, prompts())
    assert requests
    for path in ANSWERS.glob("*/*.json"):
        run = read_run(path)
        row = next(row for row in run["metrics"] if row["metric"] == "prompt_level_strict_acc")
        how, template = run["settings"], run["settings"].get("chat_template", False)
        state = STATES[how["model"], how["criterion"], how["pruning_pct"]]
        assert sum(one.passed(state, template) for one in requests) == round(row["value"] * row["n"])
        assert len(requests) == row["n"] == REQUESTS


def test_the_download_is_what_is_shown(table, tmp_path):
    (tmp_path / "claims.json").write_text("[]")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "one.svg").write_text("<svg/>")
    paths = save_tables(table, load_profiles(ROOT / "results"), tmp_path)
    with zipfile.ZipFile(save_archive(tmp_path)) as archive:
        names = archive.namelist()
        assert {path.name for path in paths} | {"claims.json", "figures/one.svg"} == set(names)
        assert all(archive.read(path.name) == path.read_bytes() for path in paths)
    again = pd.read_csv(tmp_path / "results.csv", dtype={"value": float})
    assert len(again) == len(table)
    np.testing.assert_array_equal(again["value"], table["value"])
    assert again["task"].tolist() == table["task"].tolist()


@pytest.mark.parametrize("lacks", ["rows", "name"])
def test_a_figure_without_rows_or_name_is_refused(tmp_path, lacks):
    output = {"data": {"image/svg+xml": "<svg/>"} | ({} if lacks == "rows" else {"text/csv": "a\n1\n"})}
    metadata = {"mystnb": {"figure": {} if lacks == "name" else {"name": "fig-one"}}}
    cell = {"source": "plot()", "metadata": metadata, "outputs": [output]}
    (tmp_path / "one.ipynb").write_text(json.dumps({"cells": [cell]}))
    with pytest.raises(WidthPruneError, match=f"one: .*{lacks}"):
        list(chapter_figures(tmp_path / "one.ipynb"))


def test_nothing_that_the_book_reads_is_missing_in_the_archive(tmp_path):
    """Whatever lies in results/ is there: as rows of a table, or as the file that it is."""
    results = ROOT / "results"
    write_explorer(results, stage(tmp_path))
    with zipfile.ZipFile(save_archive(tmp_path / "data")) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    rows = pd.concat(
        [pd.read_csv(io.BytesIO(kept[f"{name}.csv"]), low_memory=False) for name in ("results", "profiles")]
    )
    which = ["model", "task", "criterion", "pruning_pct"]
    measured = set(rows[which].itertuples(index=False, name=None))
    for path in filter(Path.is_file, results.rglob("*")):
        if path.suffix == ".json":
            how = read_run(path)["settings"]
            assert tuple(how[name] for name in which) in measured, path
        elif path.name != "grid.yml":  # what is still to be measured
            name = "columns.md" if path.name == "README.md" else str(path.relative_to(results))
            assert kept[name] == path.read_bytes()


def stage(folder):
    for name in ("book/static", "data"):
        (folder / name).mkdir(parents=True)
    return folder


def test_the_answers_that_are_downloaded_are_those_shown(tmp_path):
    save_answers(as_records(read_requests(ANSWERS, prompts())), tmp_path)
    saved = json.loads((tmp_path / "answers.json").read_text())
    page = answers_page(read_requests(ANSWERS, prompts()))
    assert len(saved) == page.count("<pre ") > 0
    assert all(as_html(one["prompt"]).replace("`", "&#96;") in page for one in saved)


def test_corrections_have_dates_and_the_newest_comes_first():
    found = re.findall(
        r"^- (\d{4}-\d{2}-\d{2})", corrections((ROOT / "results" / "README.md").read_text()), re.MULTILINE
    )
    assert len(found) >= 4 and found == sorted(found, reverse=True)


def test_verdicts_that_moved_are_named_and_no_others():
    then, now = (
        {"a": "reproduced", "b": "inconclusive", "c": "reproduced"},
        {"a": "reproduced", "b": "not reproduced", "d": "x"},
    )
    text = moved("one", then, "two", now, {"b": "The | claim"})
    assert "1 verdict moved, 1 claim came and 1 claim went." in text
    assert "| The \\| claim | inconclusive | not reproduced |" in text and "| a |" not in text


@pytest.mark.parametrize("count", [MOST, MOST + 1])
def test_no_panel_has_more_lines_than_one_can_tell_apart(count):
    figure, (ax, other) = plt.subplots(1, 2, layout="constrained")
    for panel, lines in ((ax, count), (other, 2)):
        for i in range(lines):
            panel.plot([0, 1], [0, i], label=f"line {i}")
        label_lines(panel)
    picture = io.StringIO()
    figure.savefig(picture, format="svg")
    plt.close(figure)
    refused = pytest.raises(WidthPruneError, match="^chapter: fig-x has 6 lines in a panel: draw 5 at most")
    with refused if count > MOST else nullcontext():
        check_lines(picture.getvalue(), "chapter: fig-x")


def test_the_page_of_changes_reaches_from_the_first_day_to_today():
    page = changes_page((ROOT / "results" / "README.md").read_text(), {"new": "reproduced"}, {})
    days = sorted(path.stem for path in (ROOT / "book" / "verdicts").glob("*.json"))
    assert f"### From {days[-1]} to today" in page and f"### From {days[0]} to " in page


@pytest.mark.parametrize("tag", ["tag_hide-input", "tag_hide-cell"])
@pytest.mark.parametrize("rows", [pages.MOST_ROWS, pages.MOST_ROWS + 1])
def test_a_chapters_long_tables_are_folded_and_its_sentences_may_break(tag, rows):
    long, short = "a sentence of <code>words --many</code>, longer than any number", "0.807 ± 0.029"
    body = f"<tr><td class='data'>{long}</td><td class='data'>{short}</td></tr>" * rows
    cell = nodes.container(classes=["cell", tag])
    cell += nodes.raw("", f"<table><thead><tr></tr></thead><tbody>{body}</tbody></table>", format="html")
    document = new_document("chapter")
    document += cell
    pages.fit_tables(SimpleNamespace(builder=SimpleNamespace(name="html")), document, "chapter")
    text = next(document.findall(nodes.raw)).astext()
    assert text.count("<td data-long") == rows and f"<td class='data'>{short}" in text
    folded = rows > pages.MOST_ROWS and tag == "tag_hide-input"
    assert (f"<summary>A table of {rows} rows</summary><table>" in text) == folded


@pytest.mark.parametrize("page", pages.MADE)
def test_a_page_without_a_source_says_what_it_is_too(page, tmp_path):
    config = SimpleNamespace(html_theme_options={"repository_url": "https://github.com/a/b"}, html_baseurl="")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "card.png").touch()
    context = {}
    pages.describe(SimpleNamespace(srcdir=tmp_path, config=config), page, "", context, None)
    for what in ("description", "og:title", "og:description", "og:image"):
        assert re.search(f'{what}" content="[^"]+"', context["metatags"])
    other = {}
    pages.describe(SimpleNamespace(srcdir=tmp_path, config=config), "_modules/x", "", other, None)
    assert other == {}


def test_the_code_of_a_first_screen_comes_below_its_figure():
    tags = ["tag_hide-input", "tag_hide-input", "tag_hide-cell", "tag_hide-input", "tag_hide-input"]
    shown = [None, nodes.raw(), nodes.raw(), nodes.figure(), nodes.figure()]
    document, codes = new_document("chapter"), [HideCodeCellNode() for _ in tags]
    for tag, code, output in zip(tags, codes, shown, strict=True):
        document += nodes.container("", *([code, output] if output else [code]), classes=["cell", tag])
    pages.code_below(SimpleNamespace(builder=SimpleNamespace(name="html")), document, "chapter")
    verdicts, folded, figure, *below, then = [cell.children for cell in document]
    assert verdicts == shown[1:2] and figure == shown[3:4]
    assert below == [[codes[0]], [codes[1]], [codes[3]]]
    # What is folded whole, and what comes later, is left as it was.
    assert folded == [codes[2], shown[2]] and then == [codes[4], shown[4]]


@pytest.mark.parametrize(("rows", "builder"), [(10, "html"), (11, "html"), (11, "singlehtml")])
def test_a_long_table_of_a_page_is_folded_too(rows, builder):
    document, table, group = new_document("page"), nodes.table(), nodes.tgroup(cols=1)
    group += [nodes.thead("", nodes.row()), nodes.tbody("", *(nodes.row() for _ in range(rows)))]
    table += group
    document += [nodes.paragraph(), table, nodes.paragraph()]
    pages.fit_tables(SimpleNamespace(builder=SimpleNamespace(name=builder)), document, "page")
    kinds = [type(node).__name__ for node in document]
    folded = rows > 10 and builder == "html"
    assert kinds == ["paragraph", *(["raw", "table", "raw"] if folded else ["table"]), "paragraph"]
    assert not folded or f"A table of {rows} rows" in document[1].astext()
