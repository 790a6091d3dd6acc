"""Strings from files on their way into a page or a terminal: they come out as text, whatever they hold."""

import html
import re

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_CODE = re.compile(r"`([^`]+)`")


def as_line(text: object) -> str:
    """One printable line: what a terminal would obey, or nobody would see, is written as its escape.

    Line ends, control characters, marks of writing direction and characters of no width are such.

    >>> print(as_line("a\\n\\x1b[31mb\\u202e"))
    a\\n\\x1b[31mb\\u202e
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))


def as_html(text: object) -> str:
    """Text for HTML, in an element or an attribute.

    >>> as_html("<b>")
    '&lt;b&gt;'
    """
    return html.escape(as_line(text))


def as_myst(text: object) -> str:
    """Text for MyST Markdown, in a paragraph, a heading or a table's cell.

    A backslash before ASCII punctuation takes every other meaning from it (CommonMark, section 2.4).

    >>> print(as_myst("{include}|$x$"))
    \\{include\\}\\|\\$x\\$
    """
    return _PUNCTUATION.sub(r"\\\1", as_line(text).strip())


def code_in_html(text: object) -> str:
    """Text for an element of HTML; what it has between backticks, such as a command to be pasted, is shown as code.

    >>> code_in_html("run `a --b <c>`")
    'run <code>a --b &lt;c&gt;</code>'
    """
    return _CODE.sub(r"<code>\1</code>", as_html(text))


def code_in_myst(text: object) -> str:
    """Text for MyST Markdown, in a paragraph or a list; what it has between backticks is shown as code.

    Nothing is markup inside code (CommonMark, section 6.1), and all that stands around it is escaped.

    >>> print(code_in_myst("*run* `a --b <c>`"))
    \\*run\\* `a --b <c>`
    """
    parts = _CODE.split(as_line(text).strip())  # every second one is code
    return "".join(f"`{part}`" if i % 2 else _PUNCTUATION.sub(r"\\\1", part) for i, part in enumerate(parts))
