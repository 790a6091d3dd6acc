"""Mutation testing of the core by cosmic-ray: what share of small changes to the code do its tests notice?

    pip install cosmic-ray
    python benchmarks/mutants.py [--modules sizes slicing ...]

Each mutant is one changed operator, number or comparison in a copy of the package, and dies if the tests of its module
fail. Prints a row a module, and every survivor with its line: each is to be read, and is either a missing test or
a change without effect. Minutes for a module, hours for all.
"""

import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parents[1]
# Module -> the tests that are its own, quickest first.
TESTS = {
    "sizes": ["test_sizes"],
    "slicing": ["test_slicing"],
    "criteria": ["test_criteria"],
    "report/stats": ["test_stats"],
    "pruning": ["test_pruning"],
}
CONFIG = """\
[cosmic-ray]
module-path = "widthprune/{module}.py"
timeout = 300.0
excluded-modules = []
test-command = "{python} -m pytest -x -q -p no:cacheprovider {tests}"
[cosmic-ray.distributor]
name = "local"
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modules", nargs="+", choices=TESTS, default=list(TESTS))
    if shutil.which("cosmic-ray") is None:
        sys.exit("cosmic-ray is not installed: pip install cosmic-ray")
    survived = []
    print(f"{'module':15} {'mutants':>8} {'killed':>8}", flush=True)
    for module in parser.parse_args().modules:
        outcomes = mutate(module)
        killed = sum(outcome != "SURVIVED" for outcome, *_ in outcomes)
        print(f"{module:15} {len(outcomes):8} {killed / len(outcomes):8.1%}", flush=True)
        survived += [(module, *where) for outcome, *where in outcomes if outcome == "SURVIVED"]
    for module, line, operator, source in survived:
        print(f"survived: {module}:{line} {operator}: {source}")


def mutate(module: str) -> list[tuple[str, int, str, str]]:
    """Outcome, line, operator and the line's text of every mutant of a module."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        shutil.copytree(
            PROJECT, copy, ignore=shutil.ignore_patterns(".git", ".venv*", "_build", "results", "__pycache__")
        )
        (copy / "results").symlink_to(PROJECT / "results")
        tests = " ".join(f"tests/{name}.py" for name in TESTS[module])
        config, session = copy / "mutants.toml", copy / "mutants.sqlite"
        config.write_text(CONFIG.format(module=module, python=sys.executable, tests=tests))
        environment = os.environ | {"PYTHONPATH": str(copy)}
        for words in (["init", "mutants.toml", "mutants.sqlite"], ["exec", "mutants.toml", "mutants.sqlite"]):
            subprocess.run(["cosmic-ray", *words], cwd=copy, env=environment, check=True, capture_output=True)
        lines = (copy / "widthprune" / f"{module}.py").read_text().splitlines()
        with sqlite3.connect(session) as database:
            rows = database.execute(
                "select test_outcome, start_pos_row, operator_name from work_results join mutation_specs using (job_id)"
            ).fetchall()
        return [(str(outcome), row, name, lines[row - 1].strip()) for outcome, row, name in rows]


if __name__ == "__main__":
    main()
