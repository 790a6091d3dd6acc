import json
import math
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest

from widthprune import WidthPruneError, load_results
from widthprune.__main__ import main
from widthprune.report.atomic import partial_prefix, write_atomically
from widthprune.report.results import COLUMNS, one_sweep, stored_sweeps, sweep, tidy
from widthprune.report.runs import (
    files_under,
    find_run,
    public_name,
    read_run,
    result_files,
    run_key,
    run_path,
    write_run,
)

SETTINGS = {
    "model": "org/tiny",
    "criterion": "PPM",
    "pruning_pct": 40.0,
    "intermediate_size": 53,
    "expansion_ratio": 53 / 32,
    "task": "prose",
    "num_fewshot": 0,
    "limit": 5,
    "seed": 0,
    "dtype": "float32",
}
METRICS = [{"metric": "word_perplexity", "value": 21.5, "stderr": None, "n": 5}]
PROVENANCE = {"commit": "abc", "device": "cpu: test", "duration_s": 1.5}


def test_written_and_read_back(tmp_path):
    path = write_run(tmp_path, SETTINGS, METRICS, PROVENANCE)
    assert path.parent.name == "org--tiny" and path.name.startswith("PPM-40pct-prose-")
    [row] = load_results(tmp_path).to_dict("records")
    assert row["value"] == 21.5 and row["n"] == 5 and row["source"] == "measured" and row["commit"] == "abc"
    assert math.isnan(row["stderr"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_kept(tmp_path, value):
    # Where a metric has no range that says more: a perplexity is never -inf, and the schema knows.
    row = METRICS[0] | {"value": value, "metric": "of_a_later_version"}
    path = write_run(tmp_path, SETTINGS, [row], PROVENANCE)
    json.loads(path.read_text(), parse_constant=pytest.fail)  # strict JSON: no bare NaN
    [read] = load_results(tmp_path)["value"]
    assert read == value or (math.isnan(read) and math.isnan(value))


@pytest.mark.parametrize("changed", [{"limit": 6}, {"seed": 1}, {"dtype": "bfloat16"}, {"data": "other"}])
def test_any_other_setting_is_another_run(tmp_path, changed):
    write_run(tmp_path, SETTINGS, METRICS, PROVENANCE)
    assert find_run(tmp_path, SETTINGS)["metrics"][0]["value"] == 21.5
    assert find_run(tmp_path, SETTINGS | changed) is None


def test_the_key_does_not_depend_on_order():
    assert run_key(SETTINGS) == run_key(dict(reversed(SETTINGS.items())))


def test_columns_and_types_hold_for_an_empty_directory(tmp_path):
    empty = load_results(tmp_path)
    assert list(empty.columns) == list(COLUMNS) and len(empty) == 0
    write_run(tmp_path, SETTINGS, METRICS, PROVENANCE)
    assert (load_results(tmp_path).dtypes == empty.dtypes).all()


def test_sweep_adds_the_unpruned_rows(tmp_path):
    write_run(tmp_path, SETTINGS, METRICS, PROVENANCE)
    write_run(tmp_path, SETTINGS | {"criterion": "none", "pruning_pct": 0.0}, METRICS, PROVENANCE)
    write_run(tmp_path, SETTINGS | {"criterion": "L2"}, METRICS, PROVENANCE)
    assert sweep(load_results(tmp_path), "org/tiny")["criterion"].tolist() == ["none", "PPM"]


def test_nothing_stays_behind_when_a_write_fails(tmp_path):
    with pytest.raises(TypeError):
        write_run(tmp_path, SETTINGS, [METRICS[0] | {"value": object()}], PROVENANCE)
    write_atomically(tmp_path / "kept.txt", "old")
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "kept.txt", 3)
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["kept.txt"]
    assert (tmp_path / "kept.txt").read_text() == "old"


def test_a_write_that_the_system_refuses_names_the_file(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(OSError, match="full.json"):
            write_atomically(tmp_path / "full.json", "a" * 2**21)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_a_kill_leaves_whole_files_only(tmp_path):
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from widthprune.report.atomic import write_atomically
        print("ready", flush=True)
        while True:
            for letter in "ab":
                write_atomically(Path(sys.argv[1]) / "file.txt", letter * 200_000)
    """)
    for delay in (0.0, 0.01, 0.05):
        writer = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)
        writer.stdout.readline()
        try:
            writer.wait(timeout=0.1 + delay)
        except subprocess.TimeoutExpired:
            os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        assert (tmp_path / "file.txt").read_text() in ("a" * 200_000, "b" * 200_000)
    # What killed writers left goes with the next write of the file; a living one's, and another machine's, stay.
    dead = partial_prefix(tmp_path / "file.txt").replace(f"-{os.getpid()}.", f"-{writer.pid}.")
    living = partial_prefix(tmp_path / "file.txt")
    for prefix in (dead, living, ".file.txt.0123abcd-1."):
        (tmp_path / f"{prefix}abcdefgh.partial").touch()
    write_atomically(tmp_path / "file.txt", "new")
    names = {"file.txt", f"{living}abcdefgh.partial", ".file.txt.0123abcd-1.abcdefgh.partial"}
    assert {path.name for path in tmp_path.iterdir()} == names


# Bad input.


def one_line(error):
    assert "\n" not in str(error.value)


def test_a_file_cut_in_half_then_healed(tmp_path):
    path = write_run(tmp_path, SETTINGS, METRICS, PROVENANCE)
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(
        WidthPruneError, match=f"{path.name} is not a whole results file .* delete it"
    ) as error:
        load_results(tmp_path)
    one_line(error)
    path.write_text(text)
    assert len(load_results(tmp_path)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        '{"schema": 1}',
        "\x00\xff",
        '{"schema": 1, "settings": 0, "metrics": [], "provenance": {}}',
        "[" * 100_000,
        '{"schema": NaN}',
        "1" + "0" * 5_000,
        " " * 2_000_000,
        '{"schema": 1, "settings": {}, "settings": {}}',
    ],
    ids=lambda text: text[:12],
)
def test_a_file_of_something_else(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(WidthPruneError, match="x.json is (not a whole results file|refused)") as error:
        load_results(tmp_path)
    one_line(error)


@pytest.mark.parametrize("kind", ["folder", "pipe", "broken link", "link to a device"])
def test_what_is_no_file(tmp_path, kind):
    path = tmp_path / "x.json"
    {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "broken link": lambda: path.symlink_to(tmp_path / "gone"),
        "link to a device": lambda: path.symlink_to("/dev/zero"),
    }[kind]()
    if "link" in kind:
        with pytest.raises(WidthPruneError, match="x.json is not a whole results file"):
            load_results(tmp_path)
    else:
        assert load_results(tmp_path).empty


def test_folders_within_folders_without_end(tmp_path, capsys):
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(sys.getrecursionlimit() + 200):
        os.mkdir("a", dir_fd=folder)
        inner = os.open("a", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(os.open("x.json", os.O_CREAT, dir_fd=folder))
    os.close(folder)
    try:
        assert main(["check", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert "1 problem in 1 file" in error and error.count("\n") == 1
    finally:
        # pytest's own sweep of old folders calls itself, too.
        subprocess.run(["rm", "-r", str(tmp_path / "a")], check=True)


STRAY = [
    "._a.json",
    ".ipynb_checkpoints/a-checkpoint.json",
    "__MACOSX/m/._a.json",
    "m/.DS_Store",
    "m/.a.json.x.partial",
]


@pytest.mark.parametrize("name", STRAY)
def test_what_other_programs_leave_is_not_read(tmp_path, name):
    path = write_run(tmp_path, SETTINGS, METRICS, PROVENANCE)
    (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    assert result_files(tmp_path) == [path] and len(load_results(tmp_path)) == 1


def test_what_the_schema_refuses_is_not_written(tmp_path):
    with pytest.raises(WidthPruneError, match="settings: seed: must be .*, got -1"):
        find_run(tmp_path, SETTINGS | {"seed": -1})
    with pytest.raises(
        WidthPruneError, match="metrics.0.value: word_perplexity must be from 1 to inf, got 0"
    ):
        write_run(tmp_path, SETTINGS, [METRICS[0] | {"value": 0.0}], PROVENANCE)
    assert not list(tmp_path.iterdir())


def test_a_local_model_is_known_by_its_name(tmp_path, monkeypatch):
    model = tmp_path / "somebody" / "of mine (v2)"
    model.mkdir(parents=True)
    here = SETTINGS | {"model": str(model), "revision": "sha256:ab"}
    path = write_run(tmp_path / "results", here, METRICS, PROVENANCE | {"device": "cpu: A™ <B>"})
    assert path.parent.name == "of-mine-v2" and "somebody" not in path.read_text() + str(
        path.relative_to(tmp_path)
    )
    table = load_results(tmp_path / "results")
    assert table["model"].tolist() == ["of-mine-v2"] and table["device"].tolist() == ["cpu: A B"]
    # It is found again by its path, from wherever that is written, and by no other model of that name.
    monkeypatch.chdir(model)
    for name in (str(model), f"{model}/", ".", f"../{model.name}"):
        assert find_run(tmp_path / "results", here | {"model": name})
        assert len(sweep(table, name)) == len(stored_sweeps(tmp_path / "results", [name], ["prose"])) == 1
    assert find_run(tmp_path / "results", here | {"revision": "sha256:cd"}) is None


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("org/name", "org/name"),
        ("org/name@main", "org/name@main"),
        ("gemma3-270m", "gemma3-270m"),
        ("/a/gemma3-270m", "gemma3-270m-local"),
        ("/a/<b>`x`/", "b-x"),
        ("/", "model"),
    ],
)
def test_public_names(model, name):
    assert public_name(model) == name


def test_settings_edited_by_hand(tmp_path):
    path = write_run(tmp_path, SETTINGS, METRICS, PROVENANCE)
    path.write_text(path.read_text().replace('"limit": 5', '"limit": 50'))
    with pytest.raises(WidthPruneError, match="does not carry the name of its settings") as error:
        read_run(path)
    one_line(error)


def test_a_later_schema(tmp_path):
    path = write_run(tmp_path, SETTINGS, METRICS, PROVENANCE)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(WidthPruneError, match="has schema 2, this version reads 1: upgrade"):
        read_run(path)


def test_no_such_directory(tmp_path):
    with pytest.raises(WidthPruneError, match="nowhere does not exist"):
        load_results(tmp_path / "nowhere")


def test_settings_that_miss_one(tmp_path):
    with pytest.raises(WidthPruneError, match="settings: seed: is missing"):
        run_path(tmp_path, {name: value for name, value in SETTINGS.items() if name != "seed"})


def test_load_results_gives_a_dataframe(tmp_path):
    assert isinstance(load_results(tmp_path), pd.DataFrame)


def test_one_sweep_never_mixes_two_limits():
    def runs(limit, *points):
        return [
            {
                "model": "m",
                "task": "piqa",
                "limit": limit,
                "n": limit,
                "criterion": criterion,
                "pruning_pct": pct,
            }
            for criterion, pct in points
        ]

    few = runs(100, ("none", 0.0), ("PPM", 10.0), ("PPM", 20.0))
    many = runs(200, ("none", 0.0), ("PPM", 10.0))
    assert set(one_sweep(tidy(pd.DataFrame(many + few)))["n"]) == {100}
    # As many models: then the most items.
    assert set(one_sweep(tidy(pd.DataFrame(few[:2] + many)))["n"]) == {200}
    # Each task and model chooses for itself.
    other = [run | {"task": "boolq"} for run in many]
    assert len(one_sweep(tidy(pd.DataFrame(few + other)))) == 5
    assert one_sweep(tidy(pd.DataFrame(columns=["model"]))).empty


@pytest.mark.parametrize(
    "other",
    [
        {"chat_template": True},
        {"max_length": 512},
        {"backend": "vllm"},
        {"revision": "b"},
        {"task_version": "2"},
    ],
)
def test_one_sweep_never_mixes_two_settings(other):
    def run(pct, **settings):
        return {"model": "m", "task": "piqa", "criterion": "PPM", "pruning_pct": pct, "n": 5} | settings

    table = tidy(pd.DataFrame([run(0.0), run(10.0), run(20.0), run(0.0, **other), run(10.0, **other)]))
    chosen = one_sweep(table)
    assert len(chosen) == 3 and chosen[list(other)].isna().all(axis=None)


def test_stored_sweeps_are_those_asked_for(tmp_path):
    for change in (
        {"criterion": "none", "pruning_pct": 0.0, "intermediate_size": 88},
        {},
        {"criterion": "VOW"},
        {"task": "facts"},
        {"model": "org/other"},
        {"limit": 3},
    ):
        write_run(tmp_path, SETTINGS | change, METRICS, PROVENANCE)
    found = stored_sweeps(tmp_path, ["org/tiny", "not/there"], ["prose"])
    assert sorted(zip(found["criterion"], found["limit"], strict=True)) == [("PPM", 5), ("none", 5)]
    both = stored_sweeps(tmp_path, ["org/tiny", "org/other"], ["prose", "facts"])
    assert set(zip(both["model"], both["task"], strict=True)) == {
        ("org/tiny", "prose"), ("org/tiny", "facts"), ("org/other", "prose"),
    }  # fmt: skip
    found = stored_sweeps(tmp_path, ["org/tiny"], ["prose"], ["VOW", "PPM"])
    assert sorted(found["criterion"]) == ["PPM", "VOW", "none"]
    assert stored_sweeps(tmp_path, ["not/there"], ["prose"]).empty
    # A chapter begins where nothing has been written yet.
    assert stored_sweeps(tmp_path / "later", ["org/tiny"], ["prose"]).empty


def test_a_file_of_a_hundred_thousand_fields_is_refused_at_once(tmp_path):
    fields = ",".join(f'"{i}":1' for i in range(80_000))
    (tmp_path / "many.json").write_text(f"{{{fields}}}")
    with pytest.raises(WidthPruneError, match="refused"):
        read_run(tmp_path / "many.json")
    (tmp_path / "many.json").write_text(f'{{{fields},"7":1}}')
    with pytest.raises(WidthPruneError, match="there twice"):
        read_run(tmp_path / "many.json")


def test_a_folder_that_vanishes_is_passed_over_and_one_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    for name in ("gone", "closed"):
        (tmp_path / name).mkdir()
    scandir = os.scandir

    def scan(folder):
        if Path(folder).name == fails:
            raise error
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scan)
    fails, error = "gone", FileNotFoundError()
    assert files_under(tmp_path) == []
    fails, error = "closed", PermissionError()
    with pytest.raises(WidthPruneError, match="closed cannot be read"):
        files_under(tmp_path)
