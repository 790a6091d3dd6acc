"""Sphinx extension: what every page says of itself, and nothing in it that a page opened from a file cannot have.

The theme asks for fonts in a way that browsers refuse to pages opened from a file, though they read the same fonts by
the style sheet; it loads the same icons again as a script of a megabyte and a half; and it names the address of a
program on a network, twice, which is an error where scripts are read. References are called a list, whose entries are
not what a list may hold. Below every figure that was drawn from data stand its files: `book/figures.py` wrote them.
"""

import html
import re
from pathlib import Path

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode

LINKS = (
    '<p class="figure-link"><a href="{up}/{name}.svg" download>This figure as SVG</a> · '
    '<a href="{up}/{name}.csv" download>its rows as CSV</a></p>'
)
FOLDED = {"tag_hide-cell", "tag_hide-output"}  # cells whose output is folded already
MOST_ROWS = 10  # of a table that is not folded
MADE = {  # pages that have no source: title and description
    "search": ("Search", "Search the pages of this book for words."),
    "genindex": ("Index", "The terms of this book, with links to where they are explained."),
}
LONGEST = 200  # characters of a description that search engines show
_SENTENCE = re.compile(r"<td(?=[^>]*>(?:[^<]|</?code>){25,}</td>)")  # one that quotes a command, too
_LIST = re.compile(r' role="(?:list(?=" class="citation-list)|doc-biblioentry)"')
_GITHUB = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)/?")
_FONT = re.compile(r'<link rel="preload" as="font"[^>]*/>\n?')
_ICONS = re.compile(r'<script[^>]*src="[^"]*/fontawesome/[^"]*/js/all\.min\.js[^"]*"[^>]*></script>\n?')
_THEBE = re.compile(r"<script>const THEBE_JS_URL = [^<]*</script>\n?")


def describe(app, page, template, context, doctree):
    """Title and first sentences, for search engines and for who is sent a link."""
    if doctree is None and page not in MADE:
        return
    title, text = MADE.get(page, (context.get("title", ""), ""))
    if doctree is not None:
        text = " ".join(next((node.astext() for node in doctree.findall(nodes.paragraph)), "").split())
    short = text if len(text) <= LONGEST else text[:LONGEST].rpartition(" ")[0] + " …"
    said = {"og:title": title, "og:description": short, "og:type": "article"}
    image = card(app)
    said |= {"og:image": image, "og:image:width": "1200", "og:image:height": "630"} if image else {}
    tags = [
        f'<meta name="description" content="{html.escape(short)}" />',
        f'<meta name="twitter:card" content="{"summary_large_image" if image else "summary"}" />',
    ]
    # The title comes with its markup.
    said["og:title"] = html.unescape(re.sub(r"<[^>]*>", "", said["og:title"]))
    tags += [f'<meta property="{name}" content="{html.escape(value)}" />' for name, value in said.items()]
    context["metatags"] = context.get("metatags", "") + "\n" + "\n".join(tags)


def card(app):
    """The address of the picture that a link to any page is shown with; None where the build has drawn none.

    It is read by others than browsers, and must say where the book is published: `html_baseurl`, or where Pages publishes
    the repository.
    """
    if not (Path(app.srcdir) / "data" / "card.png").is_file():
        return None
    published = _GITHUB.fullmatch(app.config.html_theme_options.get("repository_url", ""))
    pages = "https://{}.github.io/{}/".format(*published.groups()) if published else ""
    return (app.config.html_baseurl.rstrip("/") + "/" if app.config.html_baseurl else pages) + "card.png"


def link_figures(app, doctree, docname):
    """Below each figure that has files beside the pages, links to its picture and its rows."""
    if app.builder.name != "html":
        return
    up = "../" * docname.count("/") + "figures"
    for figure in list(doctree.findall(nodes.figure)):
        # By its name in a chapter, by its file in a page.
        names = [*figure["ids"], *(Path(image["uri"]).stem for image in figure.findall(nodes.image))]
        for name in names:
            if (Path(app.srcdir) / "data" / "figures" / f"{name}.csv").is_file():
                figure.parent.insert(
                    figure.parent.index(figure) + 1,
                    nodes.raw("", LINKS.format(up=up, name=name), format="html"),
                )
                break


def code_below(app, doctree, docname):
    """A chapter's first screen holds its verdicts and its first figure: the folded code of these comes below them."""
    figure = next(doctree.findall(nodes.figure), None) if app.builder.name == "html" else None
    cells = [cell for cell in doctree.findall(nodes.container) if "cell" in cell["classes"]]
    first = next((cell for cell in cells if figure and figure in cell.findall(nodes.figure)), None)
    if first is None:
        return
    below = []
    for cell in [cell for cell in cells[: cells.index(first) + 1] if "tag_hide-input" in cell["classes"]]:
        for code in [part for part in cell if isinstance(part, HideCodeCellNode)]:
            cell.remove(code)
            below.append(nodes.container("", code, classes=cell["classes"]))
        if not cell.children:
            cell.parent.remove(cell)
    place = first.parent.index(first) + 1
    first.parent[place:place] = below


def fit_tables(app, doctree, docname):
    """Tables longer than a glance are folded; in those that a chapter computes, cells that are sentences are marked, to be broken."""
    for_screen = app.builder.name == "html"
    for table in list(doctree.findall(nodes.table)) if for_screen else []:
        rows = sum(len(list(body.findall(nodes.row))) for body in table.findall(nodes.tbody))
        if rows > MOST_ROWS:
            place = table.parent.index(table)
            table.parent[place : place + 1] = [_raw(_folded(rows)), table, _raw("</details>")]
    for cell in doctree.findall(nodes.container):
        if "cell" not in cell["classes"]:
            continue
        folds = for_screen and not FOLDED & set(cell["classes"])
        for part in [part for part in cell.findall(nodes.raw) if "<tbody" in part.astext()]:
            text = _SENTENCE.sub("<td data-long", part.astext())
            rows = text.partition("<tbody")[2].count("<tr")
            if folds and rows > MOST_ROWS:
                text = f"{_folded(rows)}{text}</details>"
            part.replace_self(_raw(text))


def _folded(rows):
    return f"<details class='rows'><summary>A table of {rows} rows</summary>"


def _raw(text):
    return nodes.raw("", text, format="html")


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
    app.connect("doctree-resolved", link_figures)
    app.connect("doctree-resolved", fit_tables)
    app.connect("doctree-resolved", code_below)
    app.connect("build-finished", strip)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
