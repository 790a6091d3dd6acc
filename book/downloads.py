"""What readers can take along: the rows that the book shows, as files beside its pages and all of them in one archive."""

import json
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from widthprune.audit.floors import load_floors
from widthprune.report.atomic import write_atomically
from widthprune.report.published import published

ARCHIVE = "widthprune-data.zip"
# Beside the pages, and in the archive, which holds whatever the book shows.
SAVED = ("*.csv", "*.json", "columns.md", "figures/*", "studies/*", "verdicts/*")
README = Path(__file__).parents[1] / "results" / "README.md"  # what the columns mean


def save_tables(table: pd.DataFrame, profiles: pd.DataFrame, data: Path) -> list[Path]:
    """Write what the book's pages are made of as CSV files into ``data``, and return their paths.

    Parameters
    ----------
    table : DataFrame
        The rows of `shown.shown_results`.
    profiles : DataFrame
        From `widthprune.report.results.load_profiles`.
    """
    tables = {
        "results": table,
        "floors": load_floors(),
        "profiles": profiles,
        "published-efficiency": published("efficiency_runs"),
        "published-architectures": published("architectures"),
    }
    paths = []
    for name, rows in tables.items():
        paths.append(data / f"{name}.csv")
        write_atomically(paths[-1], rows.to_csv(index=False))
    paths.append(data / "columns.md")
    write_atomically(paths[-1], README.read_text(encoding="utf-8"))
    return paths


def save_folder(source: Path, data: Path) -> None:
    """Copy a folder of files that the book shows as they are; where there is none, nothing is shown."""
    shutil.rmtree(data / source.name, ignore_errors=True)
    if source.is_dir():
        shutil.copytree(source, data / source.name)


def save_answers(answers: Iterable[Mapping], data: Path) -> None:
    """Write what models wrote as ``answers.json``: no table, since spreadsheets may read a text as a formula."""
    text = json.dumps(list(answers), indent=1, ensure_ascii=False)
    write_atomically(data / "answers.json", text + "\n")


def save_archive(html: Path) -> Path:
    """One archive of all that is saved beside the pages: tables, studies, ledger, answers, every figure with its rows."""
    target = html / ARCHIVE
    files = sorted(file for pattern in SAVED for file in html.glob(pattern))
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            # Without a time of writing, the same book is the same archive.
            entry = zipfile.ZipInfo(str(file.relative_to(html)))
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return target
