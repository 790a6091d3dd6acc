"""What a browser finds in the built book: errors, requests to anywhere, overflow, and barriers (axe-core).

    make check-pages            # after `make book`; needs Chromium

Not among the tests that `make test` runs, which need no browser: see README.md.
"""

import csv
import io
import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright
from print_book import BROWSERS

HTML = Path(os.environ.get("BOOK", Path(__file__).parents[1] / "_build" / "html")).resolve()
PAGES = [page for folder in (".", "book", "notebooks") for page in sorted((HTML / folder).glob("*.html"))]
PAGES = [page for page in PAGES if page.name != "index.html"]  # which leads to the first page at once
WIDTHS, THEMES = (1280, 390), ("light", "dark")
MOST_BYTES = 2_000_000  # of a page with all that it loads, the explorer's script aside
# Its own look at style sheets asks for them again, which a page from disk may not.
AXE = {"resultTypes": ["violations"], "preload": False}


@pytest.fixture(scope="session")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert path, f"looking at pages needs a browser: install one of {', '.join(BROWSERS)}"
    assert PAGES, f"no book in {HTML}: run `make book`, or name another folder in BOOK"
    with sync_playwright() as playwright:
        # Root, as in a container, has no sandbox.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser, page, width=1280, theme="light"):
    """A page from disk, with what its scripts complained of and which files and addresses it asked for."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, accept_downloads=True
    )
    tab = context.new_page()
    tab.complaints, tab.asked = [], []
    tab.on("console", lambda said: said.type == "error" and tab.complaints.append(said.text))
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.goto(page if "://" in str(page) else page.as_uri())
    return tab


def test_there_is_a_book():
    assert {page.stem for page in PAGES} >= {"intro", "explorer", "answers", "findings", "changes"}


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page(browser, page, width, theme):
    tab = opened(browser, page, width, theme)
    tab.wait_for_load_state()
    files = {url for url in tab.asked if not url.startswith(("data:", "blob:"))}
    outside = [url for url in files if not url.startswith(HTML.as_uri())]
    over = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    barriers = [
        f"{found['id']}: {node['html'][:150]} {node['failureSummary']}"
        for found in Axe().run(tab, options=AXE).response["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"][:3]
    ]
    weight = sum(
        Path(unquote(urlsplit(url).path)).stat().st_size
        for url in files - set(outside)
        if "vega.js" not in url
    )
    tab.context.close()
    found = {"complaints": tab.complaints, "asked for": outside, "barriers": barriers}
    found |= {"pixels wider than the screen": max(0, over), "bytes too many": max(0, weight - MOST_BYTES)}
    assert not any(found.values()), {name: what for name, what in found.items() if what}


def test_a_barrier_is_found(browser):
    tab = browser.new_page()
    tab.set_content(
        "<html lang='en'><title>x</title><main><img src='data:,'><p style='color:#ddd'>pale</p></main></html>"
    )
    found = {one["id"] for one in Axe().run(tab, options=AXE).response["violations"]}
    assert {"image-alt", "color-contrast"} <= found


def rows_shown(tab):
    return tab.locator("#explorer-rows tbody tr").all_inner_texts()


def test_the_explorer_follows_a_choice_and_its_link_keeps_it(browser):
    tab = opened(browser, HTML / "book" / "explorer.html")
    tab.locator("#explorer-chart svg").wait_for()
    first = rows_shown(tab)
    tab.get_by_label("Benchmark").select_option("ifeval")
    tab.get_by_label("expansion ratio").check()
    tab.get_by_label("gemma3-270m").uncheck()
    second = rows_shown(tab)
    assert first and second and first != second and not any("gemma" in row for row in second)
    # A floor is a line with its name; without floors there is none.
    assert "blind floor" in tab.locator("#explorer-chart").inner_text()
    tab.get_by_label("what knowing nothing scores").uncheck()
    tab.wait_for_function("!document.querySelector('#explorer-chart').textContent.includes('blind floor')")
    # Values on hover.
    tab.locator("#explorer-chart .mark-symbol path").first.hover()
    tab.locator("#vg-tooltip-element.visible").wait_for()
    assert "expansion ratio" in tab.locator("#vg-tooltip-element").inner_text()
    # The link, and an address that was opened, hold the choice.
    link = tab.locator("#explorer-link").input_value()
    assert link == tab.url and "ifeval" in link
    again = opened(browser, link)
    again.locator("#explorer-chart svg").wait_for()
    assert rows_shown(again) == second and again.get_by_label("expansion ratio").is_checked()
    assert tab.complaints == again.complaints == []


def test_the_explorer_by_keyboard(browser):
    tab = opened(browser, HTML / "book" / "explorer.html")
    tab.locator("#explorer-chart svg").wait_for()
    tab.get_by_label("Benchmark").focus()
    tab.keyboard.press("ArrowDown")
    assert tab.get_by_label("Benchmark").input_value() != "mmlu"
    tab.get_by_label("Llama-3.2-1B", exact=True).focus()
    before = rows_shown(tab)
    tab.keyboard.press("Space")
    assert len(rows_shown(tab)) < len(before)


@pytest.mark.parametrize("task", ["<b>", "toString", "__proto__"])
def test_an_address_that_is_no_choice(browser, task):
    page = (HTML / "book" / "explorer.html").as_uri()
    tab = opened(browser, f"{page}#task={task}&model=nobody&x=7&metric=__proto__")
    tab.locator("#explorer-rows table").wait_for()
    assert tab.locator("#explorer-said").inner_text() == "No row of the book is of this choice."
    assert tab.complaints == []


def test_rows_that_are_downloaded_are_the_rows_shown_and_those_of_the_book(browser):
    tab = opened(browser, HTML / "book" / "explorer.html")
    tab.locator("#explorer-chart svg").wait_for()
    with tab.expect_download() as caught:
        tab.get_by_role("button", name="Rows as CSV").click()
    saved = list(csv.reader(io.StringIO(Path(caught.value.path()).read_text(encoding="utf-8"))))
    assert len(saved) - 1 == len(rows_shown(tab))
    with (HTML / "results.csv").open(encoding="utf-8", newline="") as file:
        book = [row for row in csv.DictReader(file) if row["task"] == "mmlu" and row["metric"] == "acc"]
    known = {(float(row["pruning_pct"]), float(f"{float(row['value']):.6g}")) for row in book}
    assert {(float(row[1]), float(row[3])) for row in saved[1:]} <= known


def test_answers_can_be_chosen_by_what_was_asked_for(browser):
    tab = opened(browser, HTML / "book" / "answers.html")
    shown = tab.locator("details.answer:visible")
    every = shown.count()
    tab.get_by_label("Asks for").select_option("a title")
    titles = shown.count()
    tab.get_by_label("only where pruning changed the outcome").check()
    assert 0 < shown.count() <= titles < every
    assert "✓" in shown.first.inner_text() and "✗" in shown.first.inner_text()
