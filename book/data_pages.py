"""Pages that are made of data when the book is built: explorer, answers, changes, downloads."""

import json
from collections.abc import Callable
from pathlib import Path

from answers import ANSWERS, answers_page, as_records, read_requests
from changes import KEPT, changes_page
from downloads import save_answers, save_folder, save_tables
from explorer import explorer_page, vega_script
from shown import shown_results

from widthprune.audit.ledger import Judged
from widthprune.evaluation.suites import POCKET
from widthprune.pocket.scoring import instructed_prompt
from widthprune.report.results import load_profiles


def write_pages(results_dir: Path, ledger: list[Judged], stage: Path) -> None:
    """Write them, and the files that readers download, into the staged copy of the book."""
    write_explorer(results_dir, stage)
    readme = (results_dir / "README.md").read_text(encoding="utf-8")
    verdicts = {one.claim.id: one.outcome for one in ledger}
    claims = {one.claim.id: one.claim.claim for one in ledger}
    requests = read_requests(ANSWERS, prompts())
    save_answers(as_records(requests), stage / "data")
    save_folder(KEPT, stage / "data")
    pages = {
        "answers": answers_page(requests),
        "changes": changes_page(readme, verdicts, claims),
    }
    for name, text in pages.items():
        (stage / "book" / f"{name}.md").write_text(text, encoding="utf-8")


def write_explorer(results_dir: Path, stage: Path, choose: Callable = lambda table: {}) -> None:
    """The explorer over the published results and these, and both as files; ``choose`` gives what it shows first."""
    table = shown_results(results_dir)
    save_tables(table, load_profiles(results_dir), stage / "data")
    save_folder(Path(results_dir) / "studies", stage / "data")
    (stage / "book" / "explorer.md").write_text(explorer_page(table, choose(table)), encoding="utf-8")
    (stage / "book" / "static" / "vega.js").write_text(vega_script(), encoding="utf-8")


def prompts() -> list[str]:
    """The requests of the pocket suite, as a model reads them."""
    lines = (POCKET / "data" / "instructions.jsonl").read_text(encoding="utf-8").splitlines()
    return [instructed_prompt(json.loads(line)) for line in lines]
