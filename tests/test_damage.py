"""Damage in a run's folder or its store: what cannot be read counts as not there, and everything made of it is made again."""

import os
import shutil
from pathlib import Path

import pytest

from widthprune.report.runs import read_run
from widthprune.reruns import steps
from widthprune.reruns.damage import damaged, mend, stored
from widthprune.reruns.plan import Request, make_plan
from widthprune.reruns.records import write_plan

ROOT = Path(__file__).parent.parent
MADE = ("results.csv", "record.json", "notebooks/03_capabilities.ipynb", "_build/html/index.html")
JOB = "jobs/none-88-seed0.json"


@pytest.fixture(scope="module")
def finished(language_model, tmp_path_factory):
    """A run of the unpruned model whose results are real, and whose book is a stand-in."""
    root = tmp_path_factory.mktemp("finished")
    request = Request(language_model, ratios=(2.2,), limit=1, experiments=("capabilities",))
    plan = make_plan(request, ROOT, root / "measured") | {"price_per_kwh": None}
    plan["jobs"] = {name: job for name, job in plan["jobs"].items() if name.startswith("none")}
    (root / "run").mkdir()
    write_plan(root / "run", plan)
    here = os.getcwd()
    os.chdir(root / "run")
    try:
        assert steps.main(["measure", "--job", Path(JOB).stem, "--threads", "1"]) == 0
        assert steps.main(["collect"]) == 0
    finally:
        os.chdir(here)
    for path in map(root.joinpath("run").joinpath, MADE[2:]):
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    return root, plan


@pytest.fixture
def run(finished, tmp_path):
    """A copy: its folder, plan, results there and in the store."""
    root, plan = finished
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    plan = plan | {"store": str(tmp_path / "measured")}
    write_plan(tmp_path / "run", plan)
    (job,) = plan["jobs"].values()
    return tmp_path / "run", plan, tmp_path / "run" / "results", tmp_path / "measured" / job["code"]


def file_of(plan, task):
    (job,) = plan["jobs"].values()
    return job["files"][task]


def there(folder):
    return {name for name in (JOB, *MADE) if (folder / name).exists()}


def test_a_whole_run_is_left_alone(run):
    folder, plan, _, _ = run
    assert not damaged(plan) and stored(plan) == len(next(iter(plan["jobs"].values()))["files"])
    mend(folder, plan)
    assert there(folder) == {JOB, *MADE}


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:99]),
    "empty": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
    "a link to nowhere": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("suffix", [".json", ".samples.json.gz"])
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_result_comes_from_the_store(how, suffix, run, monkeypatch):
    folder, plan, results, store = run
    DAMAGE[how]((results / file_of(plan, "pocket_instructions")).with_suffix(suffix))
    mend(folder, plan)
    assert there(folder) == {JOB}
    monkeypatch.chdir(folder)
    assert steps.main(["collect"]) == 0
    file = Path(file_of(plan, "pocket_instructions")).with_suffix(suffix)
    assert (results / file).read_bytes() == (store / file).read_bytes()


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_store_is_filled_from_the_run(how, run):
    folder, plan, results, store = run
    file = file_of(plan, "pocket_facts")
    DAMAGE[how](store / file)
    assert damaged(plan) == ([] if how == "deleted" else [store / file])
    mend(folder, plan)
    assert there(folder) == {JOB, *MADE} and read_run(store / file) == read_run(results / file)
    assert (
        (store / f"{file}.damaged").is_symlink() or (store / f"{file}.damaged").exists() or how == "deleted"
    )


@pytest.mark.parametrize("how", DAMAGE)
def test_what_is_damaged_in_both_is_measured_again(how, run, monkeypatch):
    folder, plan, results, store = run
    for place in (results, store):
        DAMAGE[how](place / file_of(plan, "pocket_facts"))
    mend(folder, plan)
    assert there(folder) == set() and not (store / file_of(plan, "pocket_facts")).exists()
    monkeypatch.chdir(folder)
    assert steps.main(["measure", "--job", Path(JOB).stem, "--threads", "1"]) == 0
    assert read_run(store / file_of(plan, "pocket_facts"))


@pytest.mark.parametrize("name", ["results.csv", "record.json", "notebooks/03_capabilities.ipynb"])
def test_what_was_made_is_made_again(name, run):
    folder, plan, _, _ = run
    (folder / name).write_text("{")
    mend(folder, plan)
    kept = {JOB, "results.csv", "record.json"} if name.startswith("notebooks") else {JOB}
    assert there(folder) == kept


@pytest.mark.parametrize("name", ["plan.json", JOB])
def test_what_only_says_what_was_done(name, run):
    """A plan is written anew, and a job that finds all its results in the store measures none."""
    folder, plan, _, _ = run
    (folder / name).write_text("[1")
    mend(folder, plan)
    assert there(folder) == ({JOB, *MADE} if name == "plan.json" else set())


def test_a_moved_run_takes_its_results_along(run):
    folder, plan, results, store = run
    shutil.rmtree(store.parent)
    mend(folder, plan)
    assert there(folder) == {JOB, *MADE} and stored(plan) > 0
    shutil.rmtree(store.parent)
    job = next(iter(plan["jobs"].values()))
    mend(folder, plan | {"jobs": {Path(JOB).stem: job | {"code": "another"}}})
    assert there(folder) == set()


def test_a_task_that_gave_no_number_is_not_tried_again(run):
    folder, plan, _, _ = run
    job = next(iter(plan["jobs"].values()))
    files = job["files"] | {"pocket_more": "model/none-0pct-pocket_more-0.json"}
    mend(folder, plan | {"jobs": {Path(JOB).stem: job | {"files": files}}})
    assert there(folder) == {JOB, *MADE}
