"""Mutation testing of the core by cosmic-ray: what share of small changes to the code do its tests notice?

    pip install cosmic-ray
    python benchmarks/mutants.py [--modules sizes slicing ...] [--sample 100]

Each mutant is one changed operator, number or comparison in a copy of the package, and dies if the tests of its module
fail. Prints a row a module, and every survivor with its line: each is to be read, and is either a missing test or
a change without effect. Tests run in forks of one process that has imported all that they import but for the package,
since those imports take longer than the tests.
"""

import argparse
import contextlib
import importlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import NoReturn

PROJECT = Path(__file__).parents[1]
# Module -> the tests that are its own.
TESTS = {
    "sizes": ["test_sizes"],
    "slicing": ["test_slicing"],
    "criteria": ["test_criteria"],
    "report/stats": ["test_stats"],
    "pruning": ["test_pruning"],
}
# Those that compare with the reference package and on real weights take most of the time; a mutant that only they
# would notice counts as a survivor.
LEFT_OUT = "optipfair"
PATIENCE = 300  # seconds that a mutant may take
CONFIG = """\
[cosmic-ray]
module-path = "widthprune/{module}.py"
timeout = {patience}.0
excluded-modules = []
test-command = "{python} {script} --ask {socket} {tests}"
[cosmic-ray.distributor]
name = "local"
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modules", nargs="+", choices=TESTS, default=list(TESTS))
    parser.add_argument("--sample", type=int, help="mutants of each module, drawn by lot; default all")
    parser.add_argument("--ask", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        sys.exit(ask(*options.ask))
    if shutil.which("cosmic-ray") is None:
        sys.exit("cosmic-ray is not installed: pip install cosmic-ray")
    print(f"{'module':15} {'mutants':>8} {'killed':>8}", flush=True)
    for module in options.modules:
        outcomes = mutate(module, options.sample)
        killed = sum(outcome != "SURVIVED" for outcome, *_ in outcomes)
        print(f"{module:15} {len(outcomes):8} {killed / len(outcomes):8.1%}", flush=True)
        for outcome, line, operator, source in outcomes:
            if outcome == "SURVIVED":
                print(f"    survived: {module}:{line} {operator}: {source}", flush=True)


def mutate(module: str, sample: int | None) -> list[tuple[str, int, str, str]]:
    """Outcome, line, operator and the line's text of every mutant of a module, or of a sample of them."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        shutil.copytree(
            PROJECT, copy, ignore=shutil.ignore_patterns(".git", ".venv*", "_build", "results", "__pycache__")
        )
        (copy / "results").symlink_to(PROJECT / "results")
        tests = " ".join(f"tests/{name}.py" for name in TESTS[module])
        config, session = copy / "mutants.toml", copy / "mutants.sqlite"
        words = dict(
            module=module,
            python=sys.executable,
            script=Path(__file__).resolve(),
            tests=tests,
            patience=PATIENCE + 10,
        )
        with prepared(copy) as socket:
            config.write_text(CONFIG.format(**words, socket=socket))
            if ask(socket, *tests.split()):
                sys.exit(f"the tests of {module} fail before anything is changed")
            cosmic_ray("init", copy)
            if sample:
                draw(session, sample)
            cosmic_ray("exec", copy)
        lines = (copy / "widthprune" / f"{module}.py").read_text().splitlines()
        with sqlite3.connect(session) as database:
            rows = database.execute(
                "select test_outcome, start_pos_row, operator_name from work_results join mutation_specs using (job_id)"
            ).fetchall()
        return [(str(outcome), row, name, lines[row - 1].strip()) for outcome, row, name in rows]


def cosmic_ray(step: str, copy: Path) -> None:
    words = ["cosmic-ray", step, "mutants.toml", "mutants.sqlite"]
    subprocess.run(words, cwd=copy, check=True, capture_output=True)


def draw(session: Path, sample: int) -> None:
    """Leave only a sample of a session's mutants, the same in every run."""
    with sqlite3.connect(session) as database:
        order = "order by module_path, start_pos_row, start_pos_col, operator_name, occurrence"
        jobs = [job for (job,) in database.execute(f"select job_id from mutation_specs {order}")]
        dropped = random.Random(0).sample(jobs, max(len(jobs) - sample, 0))
        for table in ("mutation_specs", "work_items"):
            database.executemany(f"delete from {table} where job_id = ?", [(job,) for job in dropped])


@contextlib.contextmanager
def prepared(copy: Path) -> Iterator[str]:
    """A socket behind which a process waits that runs tests, and imports once what all of them import."""
    socket = str(copy / "tests.sock")
    with Listener(socket) as listener:
        if not (child := os.fork()):
            serve(listener, copy)
        try:
            yield socket
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def serve(listener: Listener, copy: Path) -> None:
    """Answers each request with the exit status of pytest on the named files, run in a fork of this process."""
    os.chdir(copy)
    sys.path.insert(0, str(copy))
    sys.dont_write_bytecode = True
    imported = copy / "imported.txt"
    while True:
        with listener.accept() as connection:
            tests = connection.recv()
            if not (child := os.fork()):
                run(tests, imported)
            # The asker is killed when cosmic-ray's patience ends; the mutant that loops goes by itself.
            signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
            signal.alarm(PATIENCE)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            signal.alarm(0)
            if imported.exists():  # by the first run, that of the code as it is
                for name in imported.read_text().split():
                    with contextlib.suppress(Exception):
                        importlib.import_module(name)
                imported.rename(copy / "done.txt")
            with contextlib.suppress(OSError):
                connection.send(status)


def run(tests: Iterable[str], imported: Path) -> NoReturn:
    """Ends this process with the exit status of pytest; a first run leaves the names of what it imported."""
    import pytest
    from hypothesis import Phase, settings

    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    # An example that fails is not made smaller: that it fails is enough.
    settings.register_profile(
        "mutants", phases=[Phase.explicit, Phase.generate], database=None, derandomize=True
    )
    settings.load_profile("mutants")
    status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-k", f"not {LEFT_OUT}", *tests])
    if not imported.with_name("done.txt").exists():
        here = str(imported.parent)
        files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
        elsewhere = [name for name, file in files.items() if file and not file.startswith(here)]
        imported.write_text("\n".join(elsewhere))
    os._exit(status)


def ask(socket: str, *tests: str) -> int:
    """The exit status of pytest on these files."""
    with Client(socket) as connection:
        connection.send(tests)
        return connection.recv()


if __name__ == "__main__":
    main()
