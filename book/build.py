"""Build the book: execute every notebook with papermill into a staged copy, then render that copy.

    python book/build.py [--measure] [--output DIRECTORY]

Sources stay without outputs. A notebook runs again only if it, its parameters, the package, or the committed
results changed. It measures nothing unless --measure is given: a result that is missing is named, as a failing
notebook is, and the others still run; then there is no book.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from contributed import contributed_page, read_contributed
from data_pages import write_pages
from downloads import save_archive
from execute import digest, execute_all, read_parameters, side_by_side
from figures import write_figures
from front import save_card
from numbers_in_pages import compute_numbers, fill_pages
from rooms import rooms_page

from widthprune.audit.ledger import Judged, judge_all
from widthprune.audit.ledger_tables import save_ledger, to_html
from widthprune.commands.interrupts import Interrupted, interruptible
from widthprune.commands.options import Parser, folder_to_write
from widthprune.errors import WidthPruneError, one_line
from widthprune.report.verdicts import OUTCOMES, collect

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("_config.yml", "_toc.yml", "book")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="build.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--measure", action="store_true", help="measure what results/ lacks, for minutes or hours"
    )
    parser.add_argument(
        "--output", type=folder_to_write, default=ROOT, help="where _build is made, default the repository"
    )
    try:
        with interruptible():
            options = parser.parse_args(arguments)
            notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
            return build(notebooks, options.output.absolute(), options.measure)
    except Interrupted as interrupt:
        print(f"book: {interrupt}", file=sys.stderr)
        return interrupt.status
    except (ValueError, OSError) as error:
        print(f"book: error: {one_line(error)}", file=sys.stderr)
        return 2


def build(notebooks: list[Path], output: Path, measure: bool) -> int:
    """The whole book under ``output``/_build; 1 if a notebook or a page fails. With ``measure``, what is missing is measured."""
    chosen = ROOT / "book" / "parameters.yml"
    parameters = read_parameters(notebooks, chosen, measure=False)
    stage, html = output / "_build" / "stage", output / "_build" / "html"
    # A failed build must not leave yesterday's book where today's is expected.
    shutil.rmtree(html, ignore_errors=True)
    stage_sources(stage, measure)
    # Chapters in their order, since later ones read what earlier ones measure; then all are shown on all of it.
    failed = execute_all(notebooks, read_parameters(notebooks, chosen, measure), stage, 1) if measure else []
    # The first draw most and take longest: short ones at the end leave no processor idle for long.
    failed = failed or execute_all(notebooks, parameters, stage, side_by_side())
    if failed:
        print(f"book: no book was built, because of {', '.join(failed)}", file=sys.stderr)
        return 1
    # On what the chapters judged, too.
    ledger, executed = judge_all(stage / "results"), sorted((stage / "notebooks").glob("*.ipynb"))
    if differing := disagreements(ledger, executed):
        print(f"book: no book was built, because {'; '.join(differing)}", file=sys.stderr)
        return 1
    (stage / "book" / "ledger.md").write_text(ledger_page(ledger), encoding="utf-8")
    save_ledger(ledger, stage / "data")
    (stage / "book" / "rooms.md").write_text(rooms_page(), encoding="utf-8")
    try:
        # Before the page of strangers' results: what they write is never filled in.
        fill_pages((stage / "book").glob("*.md"), compute_numbers(stage / "results"))
        write_pages(stage / "results", ledger, stage)
        write_figures(stage / "results", executed, stage)
        save_card(stage / "results", stage / "data" / "card.png")
    except WidthPruneError as error:
        print(f"book: error: {error}; no book was built", file=sys.stderr)
        return 1
    *tables, problems = read_contributed(ROOT / "contributed")
    for problem in problems:
        print(f"book: left out: {problem}", file=sys.stderr)
    (stage / "book" / "contributed.md").write_text(contributed_page(*tables), encoding="utf-8")
    started = time.monotonic()
    if render(stage, output):
        shutil.rmtree(html, ignore_errors=True)
        print("book: the pages have warnings or errors, see above; no book was built", file=sys.stderr)
        return 1
    print(f"book: the pages took {time.monotonic() - started:.0f} s")
    save_archive(html)
    print(html / "index.html")
    return 0


def stage_sources(stage: Path, measure: bool) -> None:
    """Copy what the book is made of; with ``measure``, the results beside those that earlier builds measured."""
    stage.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source, target = ROOT / name, stage / name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    # Measurements made by other code than today's are not today's: they go, and are made again.
    stamp, now = stage / "package.txt", digest(ROOT / "widthprune")
    if not (measure and stamp.exists() and stamp.read_text() == now):
        shutil.rmtree(stage / "results", ignore_errors=True)
        stamp.write_text(now)
    shutil.copytree(ROOT / "results", stage / "results", dirs_exist_ok=True)


def disagreements(ledger: list[Judged], executed: list[Path]) -> list[str]:
    """Verdicts that an executed chapter shows and the front page does not: none, in a book that is built."""
    front = {one.claim.id: one.outcome for one in ledger}
    return [
        f"{path.stem} calls {shown.id} {shown.outcome}, and the front page {front.get(shown.id, 'nothing')}"
        for path in executed
        for shown in collect(json.loads(path.read_text(encoding="utf-8")))
        if shown.outcome != front.get(shown.id)
    ]


def ledger_page(ledger: list[Judged]) -> str:
    """The front page's table: every claim with its verdict and a link to its chapter, counted above."""
    counts = [f"{sum(one.outcome == outcome for one in ledger)} {outcome}" for outcome in OUTCOMES]
    chapters = {one.claim.chapter: f"../notebooks/{one.claim.chapter}.html" for one in ledger}
    summary = f"Of {len(ledger)} claims: {'; '.join(counts)}."
    return f"{summary}\n\n```{{raw}} html\n{to_html(ledger, chapters)}\n```\n"


def render(stage: Path, output: Path) -> int:
    """Jupyter Book, with warnings as errors; what it says goes to a log, and out if it fails. Its exit status."""
    # Pages are few: building all of them is quick, and a warning cannot hide in a page built before.
    options = ["--path-output", output, "--all", "-W", "-n", "--keep-going", "-q"]
    command = [Path(sys.executable).parent / "jupyter-book", "build", stage, *options]
    log = stage / ".pages.log"  # hidden: it names folders of this machine
    with log.open("wb") as file:
        status = subprocess.run(
            list(map(str, command)),
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
            stdout=file,
            stderr=subprocess.STDOUT,
        ).returncode
    if status:
        print(log.read_text(encoding="utf-8", errors="replace"), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
