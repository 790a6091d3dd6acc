"""Strings from files on their way into a page or a terminal: they come out as text, whatever they hold."""

import html
import re

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


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
