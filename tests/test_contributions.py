"""Contributed results: every kind of damage is named, and nothing bad is copied."""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from widthprune import load_results
from widthprune.__main__ import main
from widthprune.reruns.contributions import find_problems
from widthprune.results import load_profiles, read_run, run_path, write_run

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "book"))
from contributed import NONE_YET, contributed_page  # noqa: E402


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


def rewrite(root, change):
    """Change a run's file as an honest tool would: under the name that its settings then have."""
    file = pruned_file(root)
    run = json.loads(file.read_text())
    change(run)
    file.unlink()
    target = run_path(root, run["settings"])
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(run))


def settings(**changes):
    return lambda run: run["settings"].update(changes)


def metric(**changes):
    return lambda run: run["metrics"][0].update(changes)


def provenance(**changes):
    return lambda run: run["provenance"].update(changes)


DAMAGE = {
    "percentage": (settings(pruning_pct=120.0), "pruning_pct must be in [0, 100), got 120.0"),
    "criterion": (settings(criterion="MOW"), "criterion must be none or one of PPM"),
    "criterion of the unpruned": (settings(criterion="none"), "criterion is none at 20%"),
    "size": (settings(intermediate_size=0.5), "intermediate_size must be a whole number"),
    "ratio": (settings(expansion_ratio=-1), "expansion_ratio must be d_ff / d_model"),
    "task": (settings(task="exam"), "task must be one of mmlu"),
    "shots": (settings(num_fewshot=7), "num_fewshot of piqa must be 0, got 7"),
    "revision": (settings(revision=""), "revision must say which model"),
    "type": (settings(expansion_ratio="2"), "model cannot be read: TypeError"),
    "n": (metric(n=None), "acc: n must be the number of items, got None"),
    "limit": (metric(n=201), "acc: n is 201, above the limit 200"),
    "unit": (metric(value=62.0), "acc must be a share from 0 to 1, got 62.0"),
    "negative error": (metric(stderr=-0.1), "acc: stderr must not be negative"),
    "large error": (metric(stderr=0.3), "stderr 0.3 is more than 200 items can give"),
    "twice": (metric(metric="acc_norm"), "acc_norm is there 2 times"),
    "headline": (lambda run: run["metrics"].pop(1), "piqa lacks its headline metric acc_norm"),
    "date": (provenance(started="yesterday"), "started must be a date and time, got 'yesterday'"),
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


def test_a_file_cut_in_half(theirs):
    file = pruned_file(theirs)
    file.write_text(file.read_text()[:300])
    problems, runs = find_problems(theirs)
    assert [str(problem) for problem in problems] == [
        f"{file}: is not a whole results file (JSONDecodeError): delete it and run that experiment again"
    ]
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
    assert "### org/other, PPM, chat template, measured by A. Name" in page
    assert "### org/other, PPM, measured by A. Name" in page and "Measured by A. Name: org/other" in page
    whole = table[(table["pruning_pct"] == 0) & (table["metric"] == "acc_norm")].iloc[0]
    assert f"| PIQA | acc_norm | {whole['value']:.3f} ± {whole['stderr']:.3f} |" in page
    capsys.readouterr()
    assert main(["contribute", str(theirs), "--name", "B", "--results-dir", str(results)]) == 2
    assert "exists already: results of the same settings are not replaced" in capsys.readouterr().err


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
    "protocol": (settings(protocol="fast"), "protocol must be one of free, fixed, got 'fast'"),
    "weights": (settings(weights="borrowed"), "weights must be trained or random"),
    "threads": (settings(threads=0), "threads must be a whole number of at least 1, got 0"),
    "emissions for energy": (number("gross_j_total", lambda j: 0.054 * j), "gross_j_total must be the sum"),
    "joules of another window": (number("net_j_per_token", lambda j: 2 * j), "net_j_per_token must be"),
    "seconds for ms": (number("ttlt_ms_mean", lambda ms: ms / 1000), "the first token comes after the last"),
    "throughput": (number("throughput_tok_s", lambda x: 1.1 * x), "throughput_tok_s must be new_tokens over"),
    "an early end": (number("new_tokens", lambda n: n - 1), "new_tokens: 63, where 2 prompts give 64"),
    "no time": (number("ttft_ms_p50", lambda ms: -ms), "ttft_ms_p50 must be above 0"),
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
    assert (
        "### Time of org/other, measured by A. Name" in page and "| mmlu_latency_b1 | fixed | 20.0 |" in page
    )


def test_nothing_is_copied_from_a_folder_with_a_problem(theirs, tmp_path, capsys):
    rewrite(theirs, metric(value=62.0))
    assert main(["contribute", str(theirs), "--name", "A", "--results-dir", str(tmp_path / "results")]) == 2
    assert "1 problem; nothing was copied" in capsys.readouterr().err and not (tmp_path / "results").exists()


def test_the_page_without_any():
    assert contributed_page(load_results(ROOT / "results"), load_profiles(ROOT / "results")) == NONE_YET


def test_no_results(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 2
    assert "is no directory with results files" in capsys.readouterr().err
