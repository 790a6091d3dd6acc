"""Reruns: one command from a question to a book; kills, two at once, and what a change recomputes."""

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest

from widthprune import load_results
from widthprune.__main__ import main
from widthprune.evaluation.evaluate import evaluate
from widthprune.report.tasks import SUITES
from widthprune.reruns import steps
from widthprune.reruns.plan import Request, make_plan
from widthprune.reruns.records import write_plan

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "book"))
from run_book import command_line, measured_tables  # noqa: E402

TASKS = len(SUITES["pocket"])
# WIDTHPRUNE_KILLS=20 makes the same test harder: on a wider sweep, for a quarter of an hour.
KILLS = int(os.environ.get("WIDTHPRUNE_KILLS", 1))
RATIOS = [2.2, 1.8] + [2.6, 2.5, 2.4, 2.3, 2.1, 2.0, 1.9, 1.7][: KILLS // 2]
ASKED = [1.5 if ratio == 1.8 else ratio for ratio in RATIOS]  # in the end
TINY = """
from widthprune.evaluation.evaluate import evaluate
measured = evaluate(model, "pocket", pruning_pcts=pruning_pcts, expansion_ratios=ratios, criteria=criteria,
                    limit=limit, seed=seed, results_dir=results_dir, device=device)
print(len(measured))
"""
PARAMETERS = """
model = ""
pruning_pcts = [0]
ratios = []
criteria = ["PPM"]
limit = None
seed = 0
results_dir = "results"
device = "cpu"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone with the book's pages and one small notebook."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "book", root / "book", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "_config.yml", root)
    (root / "results").symlink_to(ROOT / "results")  # which the pages quote
    write_notebook(root, TINY)
    return root


def write_notebook(root, source):
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# Tiny\n\nIts controls are [chapter 8](08_audit.ipynb)."),
            nbformat.v4.new_code_cell(PARAMETERS.strip(), metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(source.strip()),
        ]
    )
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, root / "notebooks" / "03_capabilities.ipynb")


def command(model, project, out, *more, ratios=RATIOS):
    words = [sys.executable, "-m", "widthprune", "rerun", "--model", model, "--ratios", *map(str, ratios)]
    words += [
        "--limit",
        "3",
        "--experiments",
        "capabilities",
        "--price-per-kwh",
        "0.3",
        "--project",
        project,
        "--out",
        out,
        *more,
    ]
    return [str(word) for word in words]


def store(out):
    """Every measured file, with what a second measurement of it would change."""
    return {path: path.stat().st_mtime_ns for path in (out.parent / "measured").rglob("*.json")}


@pytest.fixture(scope="module")
def finished(language_model, project, tmp_path_factory):
    """A rerun killed at random moments, group and all, then one whose notebook fails, and one of another ratio to the end."""
    out = tmp_path_factory.mktemp("runs") / "run"
    pause, seen, second = random.Random(0), [], None
    for kill in range(KILLS):
        with open(os.devnull, "w") as nowhere:
            group = subprocess.Popen(
                command(language_model, project, out), stdout=nowhere, stderr=nowhere, start_new_session=True
            )
        # A first result must be there, or every kill would fall into the imports.
        before, deadline = len(store(out)), time.monotonic() + 120
        while len(store(out)) == before and group.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if kill == 0:
            with contextlib.redirect_stderr(io.StringIO()) as told:
                status = main(command(language_model, project, out)[3:])
            second = SimpleNamespace(returncode=status, stderr=told.getvalue())
        time.sleep(pause.uniform(0, 3))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group.pid, signal.SIGKILL)
        group.wait()
        seen.append(store(out))
    write_notebook(project, "1 / 0")
    failed = subprocess.run(command(language_model, project, out), capture_output=True, text=True)
    seen.append(store(out))
    write_notebook(project, TINY)
    # What an earlier question left is made anew.
    shutil.copy(project / "notebooks" / "03_capabilities.ipynb", out / "notebooks")
    for folder in ("stage", "html"):
        (out / "_build" / folder / "book").mkdir(parents=True)
        (out / "_build" / folder / "book" / "run.html").write_text("another book")
    words = command(language_model, project, out, ratios=ASKED)
    done = subprocess.run(words, capture_output=True, text=True)
    return SimpleNamespace(out=out, failed=failed, done=done, seen=seen, second=second)


def test_one_command_ends_with_a_book_that_shows_the_ratios(finished):
    assert finished.done.returncode == 0, finished.done.stderr[-2000:]
    page = Path(finished.done.stdout.splitlines()[-1])
    text = (page.parent / "book" / "run.html").read_text()
    assert "at 2.2x, 1.5x" in text and "2.22x" in text and "1.50x" in text
    chapter = (page.parent / "notebooks" / "03_capabilities.html").read_text()
    # A chapter that this book lacks is read where it is.
    assert 'href="https://github.com/widthprune/widthprune/blob/main/notebooks/08_audit.ipynb"' in chapter
    # What the model wrote lies beside the results, and is a page.
    answers = (page.parent / "book" / "answers_pocket_instructions.html").read_text()
    assert answers.count("<details class='answer'") == 3 and "unpruned" in answers
    executed = nbformat.read(finished.out / "notebooks" / "03_capabilities.ipynb", as_version=4)
    printed = "".join(out.text for out in executed.cells[-1].outputs if out.get("name") == "stdout")
    assert printed.strip() == str(len(pd.read_csv(finished.out / "results.csv")))


def test_kills_lose_nothing_and_repeat_nothing(finished):
    assert all(len(seen) > 0 for seen in finished.seen)
    after = store(finished.out)
    for seen in finished.seen:
        assert {path: after[path] for path in seen} == seen


def test_the_table_is_that_of_an_undisturbed_run(finished, language_model, tmp_path):
    whole = evaluate(
        language_model, pruning_pcts=[], expansion_ratios=ASKED, limit=3, results_dir=str(tmp_path)
    )
    order = ["criterion", "pruning_pct", "task", "metric"]
    rows = [
        table.drop(columns=["duration_s", "commit"]).sort_values(order, ignore_index=True)
        for table in (whole, load_results(finished.out / "results"))
    ]
    pd.testing.assert_frame_equal(*rows, rtol=1e-6)


def test_a_second_rerun_on_the_folder_is_told_to_wait(finished):
    assert finished.second.returncode == 2
    assert finished.second.stderr.startswith("widthprune: error: out: another rerun works in ")


def test_the_record_says_what_repeats_it(finished):
    record = json.loads((finished.out / "record.json").read_text())
    assert record["parameters"]["ratios"] == ASKED and record["results"] == TASKS * (1 + len(ASKED))
    assert record["model_revision"].startswith("sha256:") and len(record["data"]) == TASKS
    assert record["devices"] and record["versions"]["torch"] and record["duration_s"] > 0
    # A kill takes its attempt's reading with it, and the record counts what that leaves uncovered.
    energy = record["energy"]
    covered, before = map(int, re.findall(r"\d+", energy["covers"]))
    assert energy["energy_by"].startswith("codecarbon") and energy["energy_kwh"] > 0
    assert covered + before == record["results"] and energy["cost"] == 0.3 * energy["energy_kwh"]


def test_what_is_not_hidden_names_no_folder_of_this_machine(finished, language_model):
    files = [path for path in finished.out.rglob("*.*") if path.is_file()]
    shown = [
        path for path in files if not any(part[0] == "." for part in path.relative_to(finished.out).parts)
    ]
    folders = [os.fsencode(folder) for folder in (finished.out.parent, language_model)]
    assert shown and not [path for path in shown for folder in folders if folder in path.read_bytes()]


def test_a_notebook_that_fails_is_named_with_its_cell(finished):
    assert finished.failed.returncode == 2 and "is not complete" in finished.failed.stderr
    said = "rerun: 03_capabilities failed in cell 3: ZeroDivisionError: division by zero"
    assert said in finished.failed.stderr
    assert len(finished.seen[-1]) == TASKS * (1 + len(RATIOS))


def test_another_ratio_measures_that_one_alone(finished):
    before, after = finished.seen[-1], store(finished.out)
    assert len(after) == len(before) + TASKS and {path: after[path] for path in before} == before
    ratios = {round(r, 1) for r in load_results(finished.out / "results")["expansion_ratio"]}
    assert ratios == {2.8, *ASKED}


BAD = {
    "ratio": (["--ratios", "5"], "ratios: expansion_ratio must be in (0, 2.7500], the model's own ratio, got 5"),
    "no ratio": ([], "ratios: name at least one expansion ratio"),
    "suite": (["--ratios", "2", "--suite", "pockett"], "suite must be one of paper, paper-instruct, pocket, got"),
    "experiment": (["--ratios", "2", "--experiments", "truth"], "experiments must be of criteria, capabilities"),
    "template": (["--ratios", "2", "--chat-template"], "chat-template: the tokenizer of"),
    "too few": (["--ratios", "2", "--experiments", "truthfulness"], "needs at least 2 below the model's own, got 1"),
    "limit": (["--ratios", "2", "--limit", "0"], "--limit must be a whole number of at least 1"),
    "criterion": (["--ratios", "2", "--criteria", "MOW"], "criteria: criterion must be one of PPM"),
    "device": (["--ratios", "2", "--device", "abacus"], "device abacus is not to be had"),
    "profile": (["--ratios", "2", "--profile", "moon"], "profile must be one of local, slurm, kubernetes or a folder"),
    "price": (["--ratios", "2", "--price-per-kwh", "-1"], "price-per-kwh must be a price of at least 0, got '-1'"),
    "cores": (["--ratios", "2", "--cores", "0"], "--cores must be a whole number of at least 1"),
    "project": (["--ratios", "2", "--project", "nowhere"], "there is no notebook nowhere"),
}  # fmt: skip


def fails(arguments, capsys):
    assert main(["rerun", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("widthprune: error: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize("case", BAD)
def test_bad_parameters_start_nothing(case, language_model, tmp_path, capsys):
    options, message = BAD[case]
    out = tmp_path / "out"
    assert message in fails(["--model", language_model, "--out", out, *options], capsys)
    assert not out.exists() and list(tmp_path.iterdir()) == []


def test_an_unknown_model(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = fails(["--model", "no/such-model", "--ratios", "2", "--out", tmp_path / "out"], capsys)
    assert "model: no/such-model" in error and list(tmp_path.iterdir()) == []


def test_no_network_for_a_suite_of_the_hub(language_model, tmp_path, capsys, monkeypatch):
    for name in ("WIDTHPRUNE_DATA", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.HfApi.list_datasets", lambda *_, **__: 1 / 0)
    words = ["--model", language_model, "--ratios", "2", "--suite", "paper", "--out", tmp_path / "out"]
    assert "suite: mmlu reads its data from the hub, which cannot be reached" in fails(words, capsys)
    assert list(tmp_path.iterdir()) == []


def test_no_disk(language_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5e6))
    error = fails(["--model", language_model, "--ratios", "2", "--out", tmp_path / "out"], capsys)
    assert "out: the disk of" in error and "has 5 MB free" in error


def test_a_folder_of_something_else(language_model, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("")
    error = fails(["--model", language_model, "--ratios", "2", "--out", tmp_path], capsys)
    assert "holds something else than a rerun" in error


def test_a_dry_run_lists_the_jobs_and_writes_nothing(language_model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--model", language_model, "--ratios", "2.2", "1.8", "--criteria", "PPM", "L2", "--dry-run"]
    assert main(["rerun", *words]) == 0
    printed = capsys.readouterr().out
    assert (
        printed.startswith(f"5 jobs, {5 * TASKS} results asked")
        and "L2-58-seed0, 1.8125x: pocket_facts" in printed
    )
    assert list(tmp_path.iterdir()) == []


def test_the_chat_template_is_measured_as_well(chat_model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--limit", "2", "--experiments", "instruct", "--chat-template", "--dry-run"]
    assert main(["rerun", "--model", chat_model, "--ratios", "2.2", *options]) == 0
    jobs = capsys.readouterr().out.splitlines()
    # Prose has no prompt that a template could hold.
    assert jobs[0] == f"4 jobs, {4 * TASKS - 2} results asked, 0 of them stored"
    assert jobs[1].startswith("none-88-seed0, 2.75x: pocket_facts, ") and jobs[2].startswith("PPM-71-seed0, ")
    assert [job.split(",")[0] for job in jobs[3:]] == ["none-88-seed0-template", "PPM-71-seed0-template"]
    assert "pocket_prose" not in jobs[3] and "pocket_instructions" in jobs[3]


def test_the_instruct_chapter_finds_all_that_a_plan_with_the_template_measures(
    chat_model, tmp_path, monkeypatch
):
    """Whatever the suite: the chapter's own instructions are in the plan, and measured as it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "widthprune.evaluation.suites.SUITES", SUITES | {"paper-instruct": {"pocket_facts": 0}}
    )
    asked = dict(ratios=(2.2,), suite="paper-instruct", experiments=("instruct",), limit=2)
    plan = make_plan(Request(chat_model, **asked, chat_template=True), ROOT, tmp_path / "measured")
    assert plan["notebooks"]["06_instruct"]["chat_template"] is True
    jobs = plan["jobs"]
    assert list(jobs["none-88-seed0-template"]["files"]) == ["pocket_facts", "pocket_instructions"]
    write_plan(tmp_path, plan)
    for name in ("none-88-seed0", "none-88-seed0-template"):
        assert steps.main(["measure", "--job", name, "--threads", "1"]) == 0
        store = tmp_path / "measured" / jobs[name]["code"]
        assert all((store / file).exists() for file in jobs[name]["files"].values())
    table = load_results(store)
    in_template = table[table["chat_template"]]
    assert set(in_template["task"]) == {"pocket_facts", "pocket_instructions"}
    plain, chat = measured_tables(table).split("In the tokenizer's chat template:")
    assert "pocket prose" in plain and "pocket prose" not in chat and "pocket instructions" in chat
    assert command_line(plan["request"]).endswith("--chat-template")
