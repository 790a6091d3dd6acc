"""Pages that are made of data when the book is built: explorer, answers, downloads, changes."""

import json
from pathlib import Path

from answers import answers_page, read_requests
from downloads import save_tables
from explorer import explorer_page, vega_script
from shown import shown_results

from widthprune.evaluation.suites import POCKET
from widthprune.pocket.scoring import instructed_prompt


def write_pages(results_dir: Path, stage: Path) -> None:
    """Write them, and the files that readers download, into the staged copy of the book."""
    table = shown_results(results_dir)
    save_tables(table, results_dir, stage / "data")
    pages = {"explorer": explorer_page(table), "answers": answers_page(read_requests(results_dir, prompts()))}
    for name, text in pages.items():
        (stage / "book" / f"{name}.md").write_text(text, encoding="utf-8")
    (stage / "book" / "static" / "vega.js").write_text(vega_script(), encoding="utf-8")


def prompts() -> list[str]:
    """The requests of the pocket suite, as a model reads them."""
    lines = (POCKET / "data" / "instructions.jsonl").read_text(encoding="utf-8").splitlines()
    return [instructed_prompt(json.loads(line)) for line in lines]
