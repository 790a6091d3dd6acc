"""A criterion, a benchmark, a packaged model, a notebook: each is one entry, and everything knows it then."""

import shutil
import subprocess
import sys
from pathlib import Path

import widthprune

# File of the package -> a line there, and what is written behind it.
ENTRIES = {
    "criteria.py": (
        "    for criterion in (\n",
        '        Criterion("NEWCOMER", "the first weight of the gate row", "newcomer"),\n',
    ),
    "weight_criteria.py": (
        "from .errors import WidthPruneError, in_one_line\n",
        "\ndef newcomer(gate, up):\n    return gate[..., 0]\n\n",
    ),
    "report/tasks.py": (
        "TASKS = {\n",
        '    "openbookqa": Task("OpenBookQA", "acc_norm", "fragile", ("paper",), items=500, folder="openbookqa"),\n',
    ),
    "models/packaged.py": (
        "PACKAGED = {\n",
        '    "newcomer-1b": PackagedModel("newcomer", "pip install newcomer", (("newcomer", "a.gguf"),), "0", "Q8_0"),\n',
    ),
    "reruns/experiments.py": (
        "EXPERIMENTS = {\n",
        '    "newcomer": Experiment("03_capabilities", ("pocket_facts",)),\n',
    ),
}
LOOK = """
import contextlib, io, sys
from pathlib import Path
import pandas as pd
from widthprune import CRITERIA, load_results, prune_model
from widthprune.__main__ import main
from widthprune.evaluation.suites import find_benchmarks
from widthprune.models.loading import load_model
from widthprune.report.figures import plot_criteria, plot_models
from widthprune.report.tables import show
from widthprune.reruns.contributions import find_problems
from widthprune.reruns.plan import Request, make_plan

model, project, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

def says(*words):
    with contextlib.redirect_stdout(io.StringIO()) as told, contextlib.suppress(SystemExit):
        main([*words])
    return told.getvalue()

def refused(*words):
    with contextlib.redirect_stderr(io.StringIO()) as told:
        assert main([*words]) == 2
    return told.getvalue()

assert "NEWCOMER" in says("prune", "--help") and "newcomer" in says("rerun", "--help")
assert "openbookqa" in refused("evaluate", model, "--tasks", "nothing")
assert refused("evaluate", "newcomer-1b", "--dry-run").endswith("is not installed: pip install newcomer\\n")
assert main(["evaluate", model, "--tasks", "pocket_facts", "--limit", "2", "--pruning-pcts", "50",
             "--criteria", "newcomer", "PPM", "--results-dir", str(out)]) == 0
found = load_results(out)
assert plot_criteria(found.assign(label="here"), task="pocket_facts").get_yticklabels()[1].get_text() == "NEWCOMER"
assert find_problems(out)[0] == []
other = found[found["metric"] == "acc"].assign(task="openbookqa", metric="acc_norm")
assert "OpenBookQA" in plot_models(other[other["criterion"] != "PPM"], tasks=["openbookqa"])[0].get_title()
assert "OpenBookQA" in show(other[other["criterion"] != "PPM"]).to_html()
(benchmark,) = find_benchmarks(["openbookqa"], out)
assert benchmark.version and benchmark.data == "hub"
plan = make_plan(Request(model, ratios=(2.0,), criteria=("NEWCOMER",), experiments=("newcomer",)), project, out)
assert any(name.startswith("NEWCOMER-") for name in plan["jobs"])
"""


def test_one_entry_is_enough(language_model, tmp_path, monkeypatch):
    project = Path(widthprune.__file__).parents[1]
    copy = tmp_path / "copy" / "widthprune"
    shutil.copytree(project / "widthprune", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for file, (line, entry) in ENTRIES.items():
        text = (copy / file).read_text()
        assert text.count(line) == 1, file
        (copy / file).write_text(text.replace(line, line + entry))
    monkeypatch.setenv("PYTHONPATH", str(copy.parent))
    monkeypatch.delenv("WIDTHPRUNE_DATA", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", LOOK, language_model, project, tmp_path / "results"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
