"""Build the book: execute every notebook with papermill into a staged copy, then render that copy.

    python book/build.py [--profile full|quick] [--output DIRECTORY]

Sources stay without outputs. A notebook runs again only if it, its parameters, the package, or the
committed results changed. A failing notebook is named and the others still run; then there is no book.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import papermill
import yaml
from contributed import contributed_page, read_contributed
from data_pages import write_pages
from downloads import save_archive
from numbers_in_pages import compute_numbers, fill_pages
from rooms import rooms_page

from widthprune.audit.ledger import Judged, judge_all
from widthprune.audit.ledger_tables import save_ledger, to_html
from widthprune.commands.interrupts import Interrupted, interruptible
from widthprune.commands.options import Parser, folder_to_write
from widthprune.errors import WidthPruneError, one_line
from widthprune.report.verdicts import OUTCOMES, collect
from widthprune.reruns.notebooks import execute_notebook

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("_config.yml", "_toc.yml", "book")


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="build.py", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="full", help="a file of book/profiles, without .yml")
    parser.add_argument(
        "--output", type=folder_to_write, default=ROOT, help="where _build is made, default the repository"
    )
    try:
        with interruptible():
            options = parser.parse_args(arguments)
            notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
            return build(read_profile(options.profile, notebooks), notebooks, options.output.absolute())
    except Interrupted as interrupt:
        print(f"book: {interrupt}", file=sys.stderr)
        return interrupt.status
    except (ValueError, OSError) as error:
        print(f"book: error: {one_line(error)}", file=sys.stderr)
        return 2


def build(parameters: dict[str, dict], notebooks: list[Path], output: Path) -> int:
    """The whole book under ``output``/_build; 1 if a notebook or a page fails."""
    stage, html = output / "_build" / "stage", output / "_build" / "html"
    # A failed build must not leave yesterday's book where today's is expected.
    shutil.rmtree(html, ignore_errors=True)
    stage_sources(stage)
    failed = [path.stem for path in notebooks if not execute(path, parameters.get(path.stem, {}), stage)]
    if failed:
        print(f"book: no book was built, because of {', '.join(failed)}", file=sys.stderr)
        return 1
    # On what the chapters judged, too.
    ledger = judge_all(stage / "results")
    if differing := disagreements(ledger, sorted((stage / "notebooks").glob("*.ipynb"))):
        print(f"book: no book was built, because {'; '.join(differing)}", file=sys.stderr)
        return 1
    (stage / "book" / "ledger.md").write_text(ledger_page(ledger), encoding="utf-8")
    save_ledger(ledger, stage / "data")
    (stage / "book" / "rooms.md").write_text(rooms_page(), encoding="utf-8")
    try:
        # Before the page of strangers' results: what they write is never filled in.
        fill_pages((stage / "book").glob("*.md"), compute_numbers(ROOT / "results"))
        write_pages(ROOT / "results", ledger, stage)
    except WidthPruneError as error:
        print(f"book: error: {error}; no book was built", file=sys.stderr)
        return 1
    *tables, problems = read_contributed(ROOT / "contributed")
    for problem in problems:
        print(f"book: left out: {problem}", file=sys.stderr)
    (stage / "book" / "contributed.md").write_text(contributed_page(*tables), encoding="utf-8")
    if render(stage, output):
        shutil.rmtree(html, ignore_errors=True)
        print("book: the pages have warnings or errors, see above; no book was built", file=sys.stderr)
        return 1
    save_archive(html)
    print(html / "index.html")
    return 0


def read_profile(name: str, notebooks: list[Path]) -> dict[str, dict]:
    """Parameters per notebook; papermill only warns of a misspelt one, so it is refused here."""
    file = ROOT / "book" / "profiles" / f"{name}.yml"
    known = sorted(path.stem for path in file.parent.glob("*.yml"))
    if name not in known:
        raise ValueError(f"profile must be one of {', '.join(known)}, got {name!r}")
    profile = yaml.safe_load(file.read_text(encoding="utf-8"))
    by_name = {path.stem: path for path in notebooks}
    for notebook, parameters in profile.items():
        if notebook not in by_name:
            raise ValueError(f"{file.name} names {notebook}, which is no notebook: {', '.join(by_name)}")
        has = papermill.inspect_notebook(str(by_name[notebook]))
        if unknown := sorted(set(parameters) - set(has)):
            raise ValueError(
                f"{file.name}: {notebook} has no parameter {', '.join(unknown)}; it has {', '.join(has)}"
            )
    return profile


def stage_sources(stage: Path) -> None:
    """Copy what the book is made of, and the committed results beside what earlier builds measured."""
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
    if not stamp.exists() or stamp.read_text() != now:
        shutil.rmtree(stage / "results", ignore_errors=True)
        stamp.write_text(now)
    shutil.copytree(ROOT / "results", stage / "results", dirs_exist_ok=True)


def execute(source: Path, parameters: dict, stage: Path) -> bool:
    """Execute one notebook into the stage, unless an execution of exactly this is there; False if it fails."""
    executed, stamp = stage / "notebooks" / source.name, stage / "stamps" / f"{source.stem}.txt"
    identity = json.dumps(parameters, sort_keys=True) + digest(source, ROOT / "widthprune", ROOT / "results")
    if executed.exists() and stamp.exists() and stamp.read_text() == identity:
        print(f"book: {source.stem} is up to date")
        return True
    print(f"book: running {source.stem}", flush=True)
    stamp.parent.mkdir(exist_ok=True)
    stamp.unlink(missing_ok=True)
    try:
        execute_notebook(source, executed, parameters, cwd=stage)
    except WidthPruneError as error:
        print(f"book: {error}", file=sys.stderr)
        return False
    stamp.write_text(identity)
    return True


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
    """Jupyter Book, with warnings as errors; returns its exit status."""
    # Pages are few: building all of them is quick, and a warning cannot hide in a page built before.
    command = [
        "jupyter-book",
        "build",
        stage,
        "--path-output",
        output,
        "--all",
        "-W",
        "-n",
        "--keep-going",
        "-q",
    ]
    tool = Path(sys.executable).parent / command[0]
    return subprocess.run(
        [str(tool), *map(str, command[1:])], env=os.environ | {"PYTHONWARNINGS": "ignore"}
    ).returncode


def digest(*paths: Path) -> str:
    """Hash of files, and of all files under directories."""
    found = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                found.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
