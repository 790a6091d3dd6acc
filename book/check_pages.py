"""What is found in the built book: broken links, errors, requests to anywhere, overflow, and barriers (axe-core).

    make check-pages            # after `make book`; needs Chromium

Not among the tests that `make test` runs, which need no browser: see README.md.
"""

import csv
import io
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright
from print_book import BROWSERS

HTML = Path(os.environ.get("BOOK", Path(__file__).parents[1] / "_build" / "html")).resolve()
PAGES = [page for folder in (".", "book", "notebooks") for page in sorted((HTML / folder).glob("*.html"))]
PAGES = [page for page in PAGES if page.name != "index.html"]  # which leads to the first page at once
CHAPTERS = [page for page in PAGES if page.parent.name == "notebooks"]
MOST_MS, TRIES = 1000, 5  # until something is seen, from disk
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
# Theme -> width of the screen -> rules of axe-core. Colours are what a theme changes, and the slowest to look at;
# nearly all else is there at either width.
THEMES = ("light", "dark")
RULES = {
    "light": {1280: {"rules": {}}, 390: {"rules": {"color-contrast": {"enabled": False}}}},
    "dark": {1280: {"runOnly": ["color-contrast"]}, 390: None},
}
MOST_BYTES = 2_000_000  # of a page with all that it loads, the explorer's script aside
# The rows of a table look alike, and the first ones stand for all; but those of the ledger, with badges of their own.
LOOKED_AT = {"exclude": [["table:not(.ledger) > tbody > tr:nth-child(n+6)"]]}
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
    tab.wait_for_function(f"document.documentElement.dataset.theme === '{theme}'")
    # The theme fades colours in: looked at in between, a word may be black on black.
    tab.add_style_tag(
        content="*, *::before, *::after { transition: none !important; animation: none !important; }"
    )
    return tab


def test_there_is_a_book():
    assert {page.stem for page in PAGES} >= {"intro", "explorer", "answers", "findings", "changes"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page(browser, page):
    """Loaded once in each theme, then made narrow: what is wrong with it, by theme and width."""
    looks = {theme: look(opened(browser, page, theme=theme), theme) for theme in THEMES}
    found = {theme: {name: what for name, what in seen.items() if what} for theme, seen in looks.items()}
    assert not any(found.values()), found


def look(tab, theme):
    """What a reader of this theme would be hindered by, each thing with its name; what is falsy is fine."""
    files = {url for url in tab.asked if not url.startswith(("data:", "blob:"))}
    outside = [url for url in files if not url.startswith(HTML.as_uri())]
    inside = [Path(unquote(urlsplit(url).path)) for url in files - set(outside)]
    weight = sum(path.stat().st_size for path in inside if path.name != "vega.js")
    found = {"asked for": outside, "bytes too many": max(0, weight - MOST_BYTES)}
    if theme == "light":
        found |= {
            "tables too wide": too_wide(tab, 1280),
            "tables too wide on paper": too_wide(tab, 680, "print"),
        }
    for width, rules in RULES[theme].items():
        tab.set_viewport_size({"width": width, "height": 900})
        over = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        found |= {f"pixels wider than {width}": max(0, over), f"barriers at {width}": barriers(tab, rules)}
    tab.context.close()
    return found | {"complaints": tab.complaints}


def too_wide(tab, width, media="screen"):
    """How the tables begin that have to be scrolled sideways, or are cut, also of what is folded; A4 leaves 680 pixels."""
    tab.set_viewport_size({"width": width, "height": 900})
    tab.emulate_media(media=media)
    found = tab.evaluate(
        """() => {
            const folded = [...document.querySelectorAll("details:not([open])")]
            folded.forEach(it => it.open = true)
            const wide = [...document.querySelectorAll("article table")].filter(table => {
                const box = table.parentElement
                return table.scrollWidth > table.clientWidth + 1 || box.scrollWidth > box.clientWidth + 1
            }).map(table => table.innerText.slice(0, 60))
            folded.forEach(it => it.open = false)
            return wide
        }"""
    )
    tab.emulate_media(media="screen")
    return found


def barriers(tab, rules):
    """What axe-core calls serious or critical, three places of each."""
    return [
        f"{found['id']}: {node['html'][:150]} {node['failureSummary']}"
        for found in (
            Axe().run(tab, context=LOOKED_AT, options=AXE | rules).response["violations"] if rules else ()
        )
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"][:3]
    ]


def test_something_is_seen_at_once(browser):
    """Apart from the rest, since it depends on what else the machine does: of some loads the median counts."""
    took = {}
    for page in PAGES:
        tab = opened(browser, page)
        times = []
        for _ in range(TRIES):
            times.append(tab.wait_for_function(PAINT).json_value())
            tab.reload()
        took[page.stem] = statistics.median(times)
        tab.context.close()
    assert not {name: ms for name, ms in took.items() if ms > MOST_MS}


@pytest.mark.parametrize(("width", "media"), [(1280, "screen"), (680, "print")])
def test_a_table_too_wide_is_found(browser, width, media):
    tab = browser.new_page()
    table = "<details><div style='overflow: auto'><table><tr><td style='min-width: {}px'>{}</table></div></details>"
    tab.set_content("<article>" + table.format(1500, "wide") + table.format(90, "narrow") + "</article>")
    assert too_wide(tab, width, media) == ["wide"]
    assert tab.locator("details[open]").count() == 0
    tab.close()


def test_a_barrier_is_found(browser):
    tab = browser.new_page()
    tab.set_content(
        "<html lang='en'><title>x</title><main><img src='data:,'><p style='color:#ddd'>pale</p></main></html>"
    )
    found = {one["id"] for one in Axe().run(tab, options=AXE).response["violations"]}
    assert {"image-alt", "color-contrast"} <= found


def broken_links(*pages):
    """What the pages link to within the book and is not there, files and places in them; "" if all is."""
    command = [Path(sys.executable).parent / "lychee", "--offline", "--include-fragments", "--no-progress"]
    done = subprocess.run([*command, *pages], capture_output=True, text=True)
    return done.stdout if done.returncode else ""


def test_every_link_within_the_book_leads_somewhere(tmp_path):
    assert broken_links(*PAGES) == ""
    page = tmp_path / "page.html"
    page.write_text("<h1 id='here'>x</h1><a href='#here'>x</a><a href='#there'>x</a><a href='gone.csv'>x</a>")
    said = broken_links(page)
    assert "#there" in said and "gone.csv" in said and "#here" not in said


def test_every_figure_of_every_chapter_is_there_to_be_downloaded():
    """The same picture as shown, and beside it the rows it was drawn from."""
    for page in CHAPTERS:
        text = page.read_text(encoding="utf-8")
        shown = [
            page.parent / found for found in re.findall(r'<img[^>]* src="([^"]*_images/[^"]*\.svg)"', text)
        ]
        links = [page.parent / found for found in re.findall(r'href="([^"]*figures/[^"]*)" download', text)]
        assert shown and len(links) == 2 * len(shown), page.stem
        for picture, svg, rows in zip(shown, links[::2], links[1::2], strict=True):
            assert svg.read_bytes() == picture.read_bytes()
            assert len(list(csv.reader(io.StringIO(rows.read_text(encoding="utf-8"))))) > 2, rows


def test_the_first_screen_of_a_chapter_holds_its_figure(browser):
    """Below the claim and the verdicts, at 1,280 by 800 pixels."""
    ends = {}
    for page in CHAPTERS:
        tab = opened(browser, page)
        figure = tab.locator("figure img").first
        assert figure.evaluate("it => it.naturalWidth") > 0
        ends[page.stem] = figure.evaluate("it => it.getBoundingClientRect().bottom")
        tab.context.close()
    assert ends and not {name: end for name, end in ends.items() if end > 800}


def rows_shown(tab):
    return tab.locator("#explorer-rows tbody tr").all_inner_texts()


def test_the_explorer_follows_a_choice_and_its_link_keeps_it(browser):
    tab = opened(browser, HTML / "book" / "explorer.html")
    tab.locator("#explorer-chart svg").wait_for()
    first = rows_shown(tab)
    ticks = [
        axis.locator("text").all_text_contents()
        for axis in tab.locator("#explorer-chart .role-axis-label").all()
    ]
    assert ["0", "10", "20", "30", "40", "50", "60"] in ticks
    tab.get_by_label("Benchmark").select_option("ifeval")
    tab.get_by_role("radio", name="expansion ratio").check()
    tab.get_by_role("checkbox", name="gemma3-270m", exact=True).uncheck()
    second = rows_shown(tab)
    assert first and second and first != second and not any("gemma" in row for row in second)
    # A floor is a line with its name; without floors there is none.
    assert "blind floor" in tab.locator("#explorer-chart").inner_text()
    tab.get_by_role("checkbox", name="what knowing nothing scores").uncheck()
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
    assert rows_shown(again) == second and again.get_by_role("radio", name="expansion ratio").is_checked()
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


def test_the_search_finds_words_without_a_server(browser):
    tab = opened(browser, (HTML / "search.html").as_uri() + "?q=perplexity")
    tab.locator("#search-results li a").first.wait_for()
    assert tab.locator("#search-results li").count() > 3 and tab.complaints == []


def test_answers_can_be_chosen_by_what_was_asked_for(browser):
    tab = opened(browser, HTML / "book" / "answers.html")
    shown = tab.locator("details.answer:visible")
    every = shown.count()
    tab.get_by_label("Asks for").select_option("a title")
    titles = shown.count()
    tab.get_by_label("only where pruning changed the outcome").check()
    assert 0 < shown.count() <= titles < every
    # Each has a reason among its marks: some were followed, and some were not.
    for marks in shown.locator("summary").all_inner_texts():
        assert "✓" in marks and "✗" in marks
    assert "✓" in shown.first.inner_text() and "✗" in shown.first.inner_text()
