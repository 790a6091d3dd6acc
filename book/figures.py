"""Every figure of the book as two files beside its pages: the picture as SVG, and the rows it was drawn from as CSV."""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from front import save_figures

from widthprune.errors import WidthPruneError
from widthprune.report.drawn import MIME
from widthprune.report.line_labels import GID, MOST

FOLDER = "figures"  # within the staged data, and beside the pages


def write_figures(results_dir: str | Path, notebooks: Iterable[Path], stage: Path) -> None:
    """Write the figures of executed chapters, and draw those of the pages that are no notebooks.

    Raises
    ------
    WidthPruneError
        If a chapter has a figure without a name, without rows, with the name of another, or with more lines in a panel
        than one can tell apart.
    """
    folder = stage / "data" / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for notebook in notebooks:
        for name, picture, rows in chapter_figures(notebook):
            if (folder / f"{name}.svg").exists():
                raise WidthPruneError(f"{notebook.stem}: there are two figures named {name}")
            (folder / f"{name}.svg").write_text(picture, encoding="utf-8")
            (folder / f"{name}.csv").write_text(rows, encoding="utf-8")
    for path in save_figures(results_dir, stage / "book"):
        for file in (path, path.with_suffix(".csv")):
            shutil.copy(file, folder)


def chapter_figures(notebook: Path) -> Iterator[tuple[str, str, str]]:
    """Name, SVG and rows as CSV of every figure that an executed notebook shows."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", ()):
            shown = output.get("data", {})
            if "image/svg+xml" in shown:
                picture = _text(shown["image/svg+xml"])
                check_lines(picture, f"{notebook.stem}: {_name(cell, notebook)}")
                yield _name(cell, notebook), picture, _rows(cell, shown, notebook)


def check_lines(picture: str, what: str) -> None:
    """Refuse an SVG of which a panel names more than `MOST` lines."""
    for panel in re.split(r'<g id="axes_\d+">', picture)[1:]:
        if (lines := panel.count(f'<g id="{GID}">')) > MOST:
            raise WidthPruneError(f"{what} has {lines} lines in a panel: draw {MOST} at most, or split it")


def _name(cell: Mapping, notebook: Path) -> str:
    name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
    if not name:
        raise WidthPruneError(f"{notebook.stem}: a figure has no name: {_text(cell['source'])[:60]!r}")
    return name


def _rows(cell: Mapping, shown: Mapping, notebook: Path) -> str:
    if not (rows := _text(shown.get(MIME, "")).strip()):
        what = f"{notebook.stem}: {_name(cell, notebook)} does not say which rows it was drawn from"
        raise WidthPruneError(f"{what}: keep them by widthprune.report.drawn.keep_rows")
    return rows + "\n"


def _text(lines: str | list[str]) -> str:
    # As it is written beside the page that shows it: without a line end behind the last line.
    text = lines if isinstance(lines, str) else "".join(lines)
    return "\n".join(text.splitlines())
