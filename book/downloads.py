"""What readers can take along: the rows that the book shows, as files beside its pages and all of them in one archive."""

import zipfile
from pathlib import Path

import pandas as pd

from widthprune.audit.floors import load_floors
from widthprune.report.published import published
from widthprune.report.results import write_atomically

ARCHIVE = "widthprune-data.zip"
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


def save_archive(html: Path) -> Path:
    """One archive of the tables and the ledger beside the pages, and of every figure as SVG."""
    target = html / ARCHIVE
    files = sorted(
        [*html.glob("*.csv"), *html.glob("claims.json"), html / "columns.md", *html.glob("_images/*.svg")]
    )
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            # Without a time of writing, the same book is the same archive.
            entry = zipfile.ZipInfo(str(file.relative_to(html)).replace("_images", "figures"))
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return target
