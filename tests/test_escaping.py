"""Strings of strangers in a page: whatever they hold, a reader sees it as text."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from widthprune.report.escaping import as_html, as_line, as_myst, code_in_html, code_in_myst
from widthprune.report.results import tidy
from widthprune.report.tables import origin, show

sys.path.insert(0, str(Path(__file__).parent.parent / "book"))
from run_book import missing, record_table, short  # noqa: E402

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "```{include} /etc/hostname\n```",
    "{include}`/etc/hostname`",
    "{raw}`html`",
    ":::{raw} html\n<b>x</b>\n:::",
    "[x](javascript:alert(1))",
    "![x](http://e.example/p.png)",
    "<http://e.example>",
    "$$x$$ and $y$",
    "`code` ``more``",
    "a|b\\|c",
    "line\n\n# another\r\nthird\u2028fourth",
    "right\u202eto left\u200b",
    "{{ title }} {% raw %}",
    "*one* _two_ **three** ~~four~~ a_b_c",
    "&lt;b&gt; &#60;i&#62;",
    "- item\n1. item\n> quote\n---",
    "[^1] (x)= [[x]] | - |",
    "\\",
    "%(x)s {x} \x1b[31m\x00",
]
LINKS = ["www.e.example", "e.example", "a@e.example"]  # no markup, and no links in a page either


def test_a_built_page_shows_them_as_text(tmp_path):
    texts = [*HOSTILE, *LINKS]
    cells = "".join(f"| cell{i} | {as_myst(text)} | end |\n" for i, text in enumerate(texts))
    parts = [
        f"## head{i} {as_myst(text)} end\n\n{as_myst(text)}\n\n- {as_myst(text)}\n\n{code_in_myst(f'{text} `a --b {text}`')}"
        for i, text in enumerate(texts)
    ]
    captions = "\n".join(f"<caption>{as_html(text)}{code_in_html(f'`{text}`')}</caption>" for text in texts)
    page = f"# Page\n\n| a | b | c |\n|---|---|---|\n{cells}\n" + "\n\n".join(parts)
    (tmp_path / "index.md").write_text(f"{page}\n\n```{{raw}} html\n{captions}\n```\n", encoding="utf-8")
    # What Jupyter Book switches on, and more.
    (tmp_path / "conf.py").write_text(
        "extensions = ['myst_parser']\nmyst_enable_extensions = ['colon_fence', 'dollarmath', 'amsmath', 'linkify',"
        " 'substitution', 'tasklist', 'deflist', 'html_image', 'attrs_inline', 'strikethrough']\n"
        "myst_substitutions = {'title': 'SUBSTITUTED'}\nhtml_theme = 'basic'\n"
        "smartquotes = False\n"  # which would only draw the same text with other dashes and quotes
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", tmp_path, tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    body = (tmp_path / "out" / "index.html").read_text(encoding="utf-8").split('id="page">')[1]
    body = body.split('class="sphinxsidebar"')[0]
    assert "SUBSTITUTED" not in body and "<script>alert" not in body
    # No element but those of the page's own headings, tables and lists.
    tags = set(re.findall(r"<([a-zA-Z]+)", re.sub(r'<a class="headerlink".*?</a>', "", body)))
    assert tags <= {"section", "h", "table", "thead", "tbody", "tr", "th", "td", "p", "ul", "li", "caption", "div", "span", "code"}, tags  # fmt: skip
    for i, text in enumerate(texts):
        shown = html.escape(as_line(text).strip(), quote=False)
        plain = html.unescape(body)
        assert plain.count(html.unescape(shown)) >= 5, (i, text)


@pytest.mark.parametrize("text", HOSTILE)
def test_one_line_of_what_can_be_seen(text):
    for shown in (as_line(text), as_html(text), as_myst(text), code_in_html(text), code_in_myst(text)):
        assert shown.isprintable() and len(shown.splitlines()) == 1
    assert not re.search("[<>]", as_html(text))
    assert not re.search("[<>]", re.sub("</?code>", "", code_in_html(text)))


def test_a_command_comes_out_as_it_was_typed():
    command = "`widthprune evaluate MODEL --tasks ifeval`"
    assert code_in_myst(f"a_b, {command}.") == rf"a\_b\, {command}\."
    assert code_in_html(command) == f"<code>{command.strip('`')}</code>"
    # The pages' own typography draws no dash either.
    settings = yaml.safe_load((Path(__file__).parent.parent / "_config.yml").read_text(encoding="utf-8"))
    assert "d" not in settings["sphinx"]["config"]["smartquotes_action"].lower()


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("column", ["model", "device", "dtype", "commit", "contributor"])
def test_a_caption_is_text(text, column):
    row = {"model": "m", "source": "measured", "dtype": "auto", "limit": 5, "seed": 0, "device": "cpu: X"}
    row |= {"task": "piqa", "metric": "acc_norm", "value": 0.5, "stderr": 0.1, "pruning_pct": 0.0, "n": 5}
    rows = tidy(pd.DataFrame([row | {column: text}]))
    assert not re.search("[<>\n]", origin(rows))
    caption = show(rows).to_html().partition("<caption>")[2].partition("</caption>")[0]
    assert caption == origin(rows)
    assert as_myst(text if column != "commit" else text[:9]) in origin(rows, as_myst)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_page_of_a_run_shows_them_as_text(text):
    record = {"model_revision": text, "devices": [text], "duration_s": 1.0, "results": 2, "commits": [text]}
    record |= {"versions": {text: text}, "data": {text: text}, "energy": {"energy_by": text}}
    *_, last = table = record_table(record).splitlines()
    assert len(table) == 9 and as_myst(f"{text.strip()} {text}") in last
    assert missing({"missing": {text: text}}) == f"- Missing: {as_myst(text)}, {as_myst(text)}.\n"
    assert re.fullmatch(r"[A-Za-z0-9._-]+", short({"request": {"model": f"/home/{text}"}}))
