"""Sphinx extension: what every page says of itself, and nothing in it that a page opened from a file cannot have.

The theme asks for fonts in a way that browsers refuse to pages opened from a file, though they read the same fonts by
the style sheet; it loads the same icons again as a script of a megabyte and a half; and it names the address of a
program on a network, twice, which is an error where scripts are read. References are called a list, whose entries are
not what a list may hold.
"""

import html
import re
from pathlib import Path

from docutils import nodes

LONGEST = 200  # characters of a description that search engines show
_LIST = re.compile(r' role="(?:list(?=" class="citation-list)|doc-biblioentry)"')
_FONT = re.compile(r'<link rel="preload" as="font"[^>]*/>\n?')
_ICONS = re.compile(r'<script[^>]*src="[^"]*/fontawesome/[^"]*/js/all\.min\.js[^"]*"[^>]*></script>\n?')
_THEBE = re.compile(r"<script>const THEBE_JS_URL = [^<]*</script>\n?")


def describe(app, page, template, context, doctree):
    """Title and first sentences, for search engines and for who is sent a link."""
    if doctree is None:
        return
    paragraphs = (node.astext() for node in doctree.findall(nodes.paragraph))
    text = " ".join(next(paragraphs, "").split())
    short = text if len(text) <= LONGEST else text[:LONGEST].rpartition(" ")[0] + " …"
    said = {"og:title": context.get("title", ""), "og:description": short, "og:type": "article"}
    tags = [
        f'<meta name="description" content="{html.escape(short)}" />',
        '<meta name="twitter:card" content="summary" />',
    ]
    # The title comes with its markup.
    said["og:title"] = html.unescape(re.sub(r"<[^>]*>", "", said["og:title"]))
    tags += [f'<meta property="{name}" content="{html.escape(value)}" />' for name, value in said.items()]
    context["metatags"] = context.get("metatags", "") + "\n" + "\n".join(tags)


def strip(app, exception):
    """Take what cannot work from a file out of every page."""
    if exception is None:
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text(encoding="utf-8")
            for unwanted in (_FONT, _ICONS, _LIST, _THEBE):
                text = unwanted.sub("", text)
            page.write_text(text, encoding="utf-8")


def setup(app):
    app.connect("html-page-context", describe)
    app.connect("build-finished", strip)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
