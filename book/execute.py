"""Execute the chapters, some side by side, each in a process of its own whose output goes to a log.

python book/execute.py NOTEBOOK EXECUTED PARAMETERS-AS-JSON     one chapter, in the current folder
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import papermill
import psutil
import yaml

from widthprune.commands.interrupts import Interrupted, interruptible
from widthprune.errors import WidthPruneError, one_line
from widthprune.reruns.notebooks import execute_notebook

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "book" / "matplotlibrc"  # how the book's figures are saved
# Of a chapter that only shows what is stored.
GIB_PER_CHAPTER = 1.5


def main(source: str, executed: str, parameters: str) -> int:
    try:
        with interruptible():
            execute_notebook(Path(source), Path(executed), json.loads(parameters), cwd=Path.cwd())
    except Interrupted as interrupt:
        print(interrupt)
        return interrupt.status
    except (WidthPruneError, OSError) as error:
        print(one_line(error))
        return 1
    return 0


def read_parameters(notebooks: Sequence[Path], file: Path, measure: bool) -> dict[str, dict]:
    """Parameters per notebook, from ``file``; papermill only warns of a misspelt one, so it is refused here."""
    chosen = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    by_name = {path.stem: path for path in notebooks}
    for notebook in chosen:
        if notebook not in by_name:
            raise ValueError(f"{file.name} names {notebook}, which is no notebook: {', '.join(by_name)}")
    found = {}
    for name, path in by_name.items():
        has, parameters = papermill.inspect_notebook(str(path)), chosen.get(name, {})
        if unknown := sorted(set(parameters) - set(has)):
            raise ValueError(
                f"{file.name}: {name} has no parameter {', '.join(unknown)}; it has {', '.join(has)}"
            )
        found[name] = {"measure": measure} | parameters if "measure" in has else parameters
    return found


def execute_all(
    notebooks: Sequence[Path], parameters: Mapping[str, dict], stage: Path, jobs: int
) -> list[str]:
    """Execute notebooks into the stage, ``jobs`` at a time, a line for each; the names of those that failed.

    One of which exactly this execution is there already is left as it is.
    """
    # Notebook -> what tells its execution from others: its parameters, the package, and the results.
    shared = digest(ROOT / "widthprune", stage / "results", FIGURES)
    waiting = {
        p: json.dumps(parameters.get(p.stem, {}), sort_keys=True) + digest(p) + shared for p in notebooks
    }
    for source in [source for source, identity in waiting.items() if _is_there(source, identity, stage)]:
        print(f"book: {source.stem} is up to date")
        del waiting[source]
    running, failed, started = {}, [], {}
    try:
        while waiting or running:
            for source in list(waiting)[: jobs - len(running)]:
                running[source] = _start(source, parameters.get(source.stem, {}), stage), waiting.pop(source)
                started[source] = time.monotonic()
            time.sleep(0.1)
            for source in [source for source, (process, _) in running.items() if process.poll() is not None]:
                process, identity = running.pop(source)
                seconds = time.monotonic() - started[source]
                if process.returncode:
                    failed.append(source.stem)
                    log = _log(source, stage)
                    said = _last_line(log) if process.returncode > 0 else "was stopped by a signal"
                    said = said if source.stem in said else f"{source.stem}: {said}"
                    print(f"book: {said}; its log is {log}", file=sys.stderr, flush=True)
                else:
                    _stamp(source, stage).write_text(identity)
                    print(f"book: {source.stem} took {seconds:.0f} s", flush=True)
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.wait()
    return failed


def side_by_side() -> int:
    """How many chapters that measure nothing to execute at a time on this machine."""
    room = psutil.virtual_memory().available / 2**30 / GIB_PER_CHAPTER
    return max(1, min(os.cpu_count() or 1, int(room), 4))


def digest(*paths: Path) -> str:
    """Hash of files, and of all files under directories."""
    found = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                found.update(str(file.relative_to(path.parent)).encode() + file.read_bytes())
    return found.hexdigest()


def _is_there(source: Path, identity: str, stage: Path) -> bool:
    stamp = _stamp(source, stage)
    return _executed(source, stage).exists() and stamp.exists() and stamp.read_text() == identity


def _start(source: Path, parameters: Mapping, stage: Path) -> subprocess.Popen:
    _stamp(source, stage).unlink(missing_ok=True)
    command = [sys.executable, __file__, source, _executed(source, stage), json.dumps(parameters)]
    environment = os.environ | {"MATPLOTLIBRC": str(FIGURES)}
    with _log(source, stage).open("wb") as log:
        return subprocess.Popen(
            list(map(str, command)), cwd=stage, env=environment, stdout=log, stderr=subprocess.STDOUT
        )


def _executed(source: Path, stage: Path) -> Path:
    return stage / "notebooks" / source.name


def _stamp(source: Path, stage: Path) -> Path:
    return _in_folder(stage / "stamps") / f"{source.stem}.txt"


def _log(source: Path, stage: Path) -> Path:
    return _in_folder(stage / "logs") / f"{source.stem}.log"


def _in_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "it failed without a word")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
