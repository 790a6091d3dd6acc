"""Contributed results: every kind of damage is named, and nothing bad is copied."""

import json
import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from widthprune import load_results
from widthprune.__main__ import main
from widthprune.report.escaping import as_myst
from widthprune.report.results import load_profiles, one_sweep
from widthprune.report.runs import read_run, run_key, run_text, stored_path, write_run
from widthprune.reruns.contributions import find_problems

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "book"))
from contributed import NONE_YET, contributed_page, read_contributed  # noqa: E402


def test_what_is_committed_has_no_problem():
    problems, runs = find_problems(ROOT / "results")
    assert problems == [] and len(runs) > 50


def sent(folder, task, **chosen):
    """Two runs as somebody might send them: the unpruned model and one pruned."""
    for name in ("none-0pct", "PPM-20pct"):
        files = (ROOT / "results" / "smollm2-135m-instruct").glob(f"{name}-{task}-*.json")
        runs = [run for run in map(read_run, files) if "diagnostics" not in run["settings"]]
        (run,) = [run for run in runs if chosen.items() <= run["settings"].items()]
        write_run(folder, run["settings"] | {"model": "org/other"}, run["metrics"], run["provenance"])
    return folder


@pytest.fixture
def theirs(tmp_path):
    return sent(tmp_path / "theirs", "piqa", limit=200)


def pruned_file(root):
    (file,) = root.rglob("PPM-*.json")
    return file


def place(root, settings):
    """Where a stranger's program puts a file of such settings, whatever they hold."""
    name = (
        f"{settings['criterion']}-{settings['pruning_pct']:g}pct-{settings['task']}-{run_key(settings)}.json"
    )
    return root / settings["model"].replace("/", "--") / name


def rewrite(root, change):
    """Change a run's file as an honest tool would: under the name that its settings then have."""
    file = pruned_file(root)
    run = json.loads(file.read_text())
    change(run)
    file.unlink()
    target = place(root, run["settings"])
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(run))


def settings(**changes):
    return lambda run: run["settings"].update(changes)


def metric(**changes):
    return lambda run: run["metrics"][0].update(changes)


def provenance(**changes):
    return lambda run: run["provenance"].update(changes)


DAMAGE = {
    "percentage": (settings(pruning_pct=120.0), "settings.pruning_pct: must be less than 100, got 120.0"),
    "criterion": (settings(criterion="MOW"), "settings.criterion must be none or one of PPM"),
    "criterion of the unpruned": (settings(criterion="none"), "criterion is none at 20%"),
    "size": (settings(intermediate_size=0.5), "settings.intermediate_size: must be a valid integer, got 0.5"),
    "ratio": (settings(expansion_ratio=-1), "settings.expansion_ratio: must be greater than 0"),
    "task": (settings(task="exam"), "task must be one of mmlu"),
    "shots": (settings(num_fewshot=7), "num_fewshot of piqa must be 0, got 7"),
    "revision": (settings(revision=""), "revision must say which model"),
    "type": (settings(expansion_ratio="2"), "settings.expansion_ratio: must be a valid number, got '2'"),
    "n": (metric(n=None), "n of acc must be the number of items, got None"),
    "limit": (metric(n=201), "n of acc is 201, above the limit 200"),
    "unit": (metric(value=62.0), "metrics.0.value: acc must be from 0 to 1, got 62"),
    "negative error": (metric(stderr=-0.1), "metrics.0.stderr: must be greater than or equal to 0"),
    "large error": (metric(stderr=0.3), "stderr 0.3 of acc is more than 200 items can give"),
    "share": (metric(value=0.3333), "0.3333 of acc is no share of 200 items"),
    "share of one": (metric(value=0.37, stderr=None, n=1), "0.37 of acc is no share of 1 item"),
    "twice": (metric(metric="acc_norm"), "acc_norm is there 2 times"),
    "headline": (lambda run: run["metrics"].pop(1), "piqa lacks its headline metric acc_norm"),
    "date": (
        provenance(started="yesterday"),
        "started must be a date and time from 2025 to now, got 'yesterday'",
    ),
    "another time": (
        provenance(started="9999-12-31T23:59:59"),
        "started must be a date and time from 2025 to now",
    ),
    "size of another width": (
        settings(intermediate_size=10**9),
        "intermediate_size is 1000000000 at 20%, and",
    ),
    "percentage of another width": (settings(pruning_pct=21.0), "intermediate_size is 1229 at 21%, and"),
    "ratio of another width": (settings(expansion_ratio=99), "expansion_ratio is 99 at 1229 neurons, and"),
    "device": (provenance(device=""), "device must name the hardware"),
    "duration": (provenance(duration_s=0), "duration_s must be in seconds, got 0"),
    "versions": (provenance(packages={"torch": "2"}), "lacks the version of transformers, lm_eval"),
    "no baseline": (settings(seed=9), "its unpruned model has no result with the same task"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named_in_one_line(case, theirs, capsys):
    change, message = DAMAGE[case]
    rewrite(theirs, change)
    assert main(["check", str(theirs)]) == 2
    printed = capsys.readouterr()
    lines = [line for line in printed.out.splitlines() if message in line]
    assert len(lines) == 1 and lines[0].startswith(str(theirs))
    assert printed.err.count("\n") == 1 and "problem" in printed.err


def test_a_number_that_is_none_is_no_wrong_share(theirs):
    rewrite(theirs, metric(value="nan"))
    assert find_problems(theirs)[0] == []


@pytest.mark.parametrize("empty", [True, False])
def test_a_folder_under_the_name_of_a_result(empty, theirs):
    folder = pruned_file(theirs).with_name("PPM-10pct-piqa-0123456789ab.json")
    folder.mkdir()
    if not empty:
        (folder / "README.md").write_text("")
    (problem,) = map(str, find_problems(theirs)[0])
    assert problem == f"{folder}: is a folder under the name of a results file: move it away"


def test_a_file_cut_in_half(theirs):
    file = pruned_file(theirs)
    file.write_text(file.read_text()[:300])
    problems, runs = find_problems(theirs)
    (problem,) = map(str, problems)
    assert (
        problem.startswith(f"{file}: is not a whole results file (EOF while parsing")
        and "delete it" in problem
    )
    assert len(runs) == 1


def test_a_result_that_is_there_twice(theirs):
    shutil.copytree(theirs / "org--other", theirs / "again" / "org--other")
    problems, _ = find_problems(theirs)
    assert len(problems) == 2 and all("has the same settings as" in problem.what for problem in problems)


def test_contributed_and_shown_with_its_source(theirs, tmp_path, capsys):
    results = tmp_path / "results"
    assert main(["contribute", str(theirs), "--name", "A. Name", "--results-dir", str(results)]) == 0
    table = load_results(results)
    assert set(table["contributor"]) == {"A. Name"} and find_problems(results)[0] == []
    # The same in the chat template has a table of its own.
    both = pd.concat([table, table.assign(chat_template=True)], ignore_index=True)
    page = contributed_page(both, load_profiles(results))
    assert f"### {as_myst('org/other, PPM, chat template, measured by A. Name')}" in page
    assert f"### {as_myst('org/other, PPM, measured by A. Name')}" in page
    assert f"Measured by {as_myst('A. Name')}: {as_myst('org/other')}" in page
    whole = table[(table["pruning_pct"] == 0) & (table["metric"] == "acc_norm")].iloc[0]
    assert as_myst(f"{whole['value']:.3f} ± {whole['stderr']:.3f}") in page
    capsys.readouterr()
    assert main(["contribute", str(theirs), "--name", "B", "--results-dir", str(results)]) == 2
    assert "exists already with other content: results of the same settings" in capsys.readouterr().err


@pytest.fixture
def their_profiles(tmp_path):
    return sent(tmp_path / "theirs", "mmlu_latency_b1", protocol="fixed", seed=42)


def number(name, change):
    def rewritten(run):
        (row,) = [row for row in run["metrics"] if row["metric"] == name]
        row["value"] = change(row["value"])

    return rewritten


PROFILE_DAMAGE = {
    "workload": (settings(task="typing"), "task must be one of"),
    "protocol": (settings(protocol="fast"), "settings.protocol: must be 'free' or 'fixed', got 'fast'"),
    "weights": (settings(weights="borrowed"), "settings.weights: must be 'trained' or 'random'"),
    "threads": (settings(threads=0), "settings.threads: must be greater than or equal to 1, got 0"),
    "emissions for energy": (number("gross_j_total", lambda j: 0.054 * j), "gross_j_total must be the sum"),
    "joules of another window": (number("net_j_per_token", lambda j: 2 * j), "net_j_per_token must be"),
    "seconds for ms": (number("ttlt_ms_mean", lambda ms: ms / 1000), "the first token comes after the last"),
    "throughput": (number("throughput_tok_s", lambda x: 1.1 * x), "throughput_tok_s must be new_tokens over"),
    "an early end": (number("new_tokens", lambda n: n - 1), "new_tokens is 63, where 2 prompts give 64"),
    "no time": (number("ttft_ms_p50", lambda ms: -ms), "metrics.3.value: ttft_ms_p50 must be from"),
    "no baseline": (settings(seed=9), "its unpruned model has no result"),
}


@pytest.mark.parametrize("case", PROFILE_DAMAGE)
def test_damage_of_a_profile_is_named(case, their_profiles, capsys):
    assert find_problems(their_profiles)[0] == []
    change, message = PROFILE_DAMAGE[case]
    rewrite(their_profiles, change)
    assert main(["check", str(their_profiles)]) == 2
    assert message in capsys.readouterr().out


def test_a_contributed_profile_is_shown_with_its_source(their_profiles, tmp_path):
    results = tmp_path / "results"
    assert main(["contribute", str(their_profiles), "--name", "A. Name", "--results-dir", str(results)]) == 0
    page = contributed_page(load_results(results), load_profiles(results))
    assert f"### {as_myst('Time of org/other, measured by A. Name')}" in page
    assert f"| {as_myst('mmlu_latency_b1')} | fixed | {as_myst(20.0)} |" in page


def test_nothing_is_copied_from_a_folder_with_a_problem(theirs, tmp_path, capsys):
    rewrite(theirs, metric(value=62.0))
    assert main(["contribute", str(theirs), "--name", "A", "--results-dir", str(tmp_path / "results")]) == 2
    assert "1 problem; nothing was copied" in capsys.readouterr().err and not (tmp_path / "results").exists()


def test_the_page_without_any(tmp_path):
    assert contributed_page(load_results(ROOT / "results"), load_profiles(ROOT / "results")) == NONE_YET
    *tables, problems = read_contributed(tmp_path / "contributed")
    assert contributed_page(*tables) == NONE_YET and problems == []


def test_what_is_contributed_lies_in_its_own_folder():
    runs = map(read_run, (ROOT / "results").rglob("*.json"))
    assert not any("contributor" in run["provenance"] for run in runs)
    if (ROOT / "contributed").is_dir():
        problems, runs = find_problems(ROOT / "contributed")
        assert problems == [] and all("contributor" in run["provenance"] for run in runs.values())


def test_hundreds_of_invented_files_change_their_page_alone(tmp_path):
    """Under the book's own model's name, with scores that would turn its verdicts."""
    (tmp_path / "results").symlink_to(ROOT / "results")
    invented = 0
    for path in sorted((tmp_path / "results" / "smollm2-135m-instruct").glob("*.json")):
        run = read_run(path)
        metrics = [
            row | ({"value": 1 - row["value"]} if 0 <= row["value"] <= 1 else {}) for row in run["metrics"]
        ]
        provenance = run["provenance"] | {"contributor": "A. Name"}
        if "protocol" not in run["settings"]:
            path = stored_path(tmp_path / "contributed", run["settings"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(run_text(run["settings"], metrics, provenance))
            invented += 1
    assert invented > 280 and find_problems(tmp_path / "contributed")[0] == []
    # The ledger and every chapter are functions of these tables.
    before, after = load_results(ROOT / "results"), load_results(tmp_path / "results")
    pd.testing.assert_frame_equal(before, after)
    pd.testing.assert_frame_equal(one_sweep(before), one_sweep(after))
    *tables, problems = read_contributed(tmp_path / "contributed")
    assert problems == [] and as_myst("measured by A. Name") in contributed_page(*tables)
    # No chapter and no other module reads that folder.
    sources = [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("widthprune/**/*.py"), *ROOT.glob("book/*.py")]
    readers = {path.name for path in sources if '"contributed"' in path.read_text(encoding="utf-8")}
    assert readers == {"build.py", "contributions.py"}


def test_one_bad_file_hides_no_other(theirs, capsys):
    good = find_problems(theirs)[1]
    folder = theirs / "org--other"
    for i, text in enumerate(["", "[]", "{" * 9999, '{"schema": 1, "settings": null}', "\ud7ff", "3"]):
        (folder / f"x\n\x1b[31m{i}.json").write_text(text)
    for stray in (
        "._x.json",
        ".DS_Store",
        ".ipynb_checkpoints/x-checkpoint.json",
        "__MACOSX/._x.json",
        "notes.txt",
    ):
        (folder / stray).parent.mkdir(exist_ok=True)
        (folder / stray).write_bytes(b"\x00\x05\x16\x07")
    assert main(["check", str(theirs)]) == 2
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert all(line.isprintable() and line.startswith(str(theirs)) for line in lines)
    assert sum("ignored, no results file" in line for line in lines) == 5
    assert len(lines) == 11 and "6 problems in 8 files" in printed.err
    assert find_problems(theirs)[1] == good


def test_contribute_again_after_a_kill(theirs, tmp_path, capsys):
    target = tmp_path / "contributed"
    again = ["contribute", str(theirs), "--name", " A. Name ", "--results-dir", str(target)]
    assert main(again) == 0
    whole = {path: path.read_bytes() for path in target.rglob("*.json")}
    for lost in whole:
        lost.unlink()
        (lost.parent / f".{lost.name}.abc.partial").write_text("{")  # what a kill leaves
        assert main(again) == 0 and "1 file copied" in capsys.readouterr().out
        assert {path: path.read_bytes() for path in target.rglob("[!.]*.json")} == whole
    (changed, other) = sorted(whole)
    changed.write_bytes(whole[changed].replace(b"A. Name", b"B. Name"))
    other.unlink()
    assert main(again) == 2 and not other.exists()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["", "  ", "<script>", "a\nb", "x" * 101, "[x](y)"])
def test_a_name_that_no_page_can_show(theirs, tmp_path, capsys, name):
    assert main(["contribute", str(theirs), "--name", name, "--results-dir", str(tmp_path / "to")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("widthprune: error: name must") and error.count("\n") == 1
    assert not (tmp_path / "to").exists()


def test_contributions_do_not_go_among_the_projects_own(theirs, tmp_path, capsys):
    own = tmp_path / "results"
    shutil.copytree(theirs, own)
    (tmp_path / "file").touch()
    for target, message in ((own, "holds results of this project"), (tmp_path / "file", "can be written")):
        assert main(["contribute", str(theirs), "--name", "A", "--results-dir", str(target)]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_folders_that_differ_in_case_alone_are_refused(theirs, tmp_path, capsys):
    """On the file systems of most laptops they are one folder, and every clone there would be damaged."""
    for run in [*find_problems(theirs)[1].values()]:
        write_run(theirs, run["settings"] | {"model": "org/Other"}, run["metrics"], run["provenance"])
    assert main(["check", str(theirs)]) == 2
    assert "'org--Other' and 'org--other', which are one where" in capsys.readouterr().out
    shutil.rmtree(theirs / "org--Other")
    (tmp_path / "to" / "Org--other").mkdir(parents=True)
    assert main(["contribute", str(theirs), "--name", "A", "--results-dir", str(tmp_path / "to")]) == 2
    assert "'Org--other' and 'org--other'" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["Org--other"]


def test_nothing_is_copied_into_its_own_source(theirs, capsys):
    assert main(["contribute", str(theirs), "--name", "A", "--results-dir", str(theirs / "sub")]) == 2
    assert "lies inside" in capsys.readouterr().err and not (theirs / "sub").exists()


def test_several_draws_make_several_tables(theirs, tmp_path):
    """One table could not hold them, and the book would not be built."""
    for run in [*find_problems(theirs)[1].values()]:
        for draw in (1, 2) if run["settings"]["criterion"] == "PPM" else ():
            settings = run["settings"] | {"criterion": "RANDOM", "neuron_seed": draw}
            write_run(theirs, settings, run["metrics"], run["provenance"])
    assert main(["contribute", str(theirs), "--name", "A", "--results-dir", str(tmp_path / "to")]) == 0
    page = contributed_page(*read_contributed(tmp_path / "to")[:2])
    assert all(as_myst(f"RANDOM, draw {draw}") in page for draw in (1, 2))


def test_no_results(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 2
    assert "is no directory with results files" in capsys.readouterr().err


@pytest.mark.parametrize("unseen", ["\u3164", "\u115f", "\uffa0", "\ufe0f", "\u034f", "\U000e0100"])
def test_names_that_look_alike_by_what_nobody_sees(unseen, theirs, tmp_path, capsys):
    for name in (unseen, f"A{unseen}. Name"):
        assert main(["contribute", str(theirs), "--name", name, "--results-dir", str(tmp_path / "to")]) == 2
        assert capsys.readouterr().err.startswith("widthprune: error: name must")
    rewrite(theirs, provenance(contributor=f"A{unseen}. Name"))
    assert main(["check", str(theirs)]) == 2
    assert "provenance.contributor: must" in capsys.readouterr().out


def test_folders_deeper_than_the_system_can_name(theirs, capsys, monkeypatch):
    monkeypatch.chdir(theirs)
    for _ in range(30):
        os.mkdir("x" * 200)
        monkeypatch.chdir("x" * 200)
    assert main(["check", str(theirs)]) == 2
    error = capsys.readouterr().err
    assert "holds a folder that cannot be read" in error and error.count("\n") == 1 and len(error) < 500
