"""Every option of every command, given what it must not be: one line that names it, before any work."""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from widthprune import WidthPruneError
from widthprune.__main__ import COMMANDS, main, make_parser
from widthprune.commands import options
from widthprune.commands.options import (
    COUNT,
    PERCENTAGE,
    PRICE,
    RATIO,
    SECONDS,
    SEED,
    TOKENS,
    Parser,
    check_list,
)
from widthprune.efficiency.command import workload
from widthprune.efficiency.profiling import profile_model
from widthprune.evaluation.evaluate import evaluate
from widthprune.evaluation.grid import grid
from widthprune.mlps import PRUNABLE_DTYPES
from widthprune.reruns import steps
from widthprune.reruns.plan import Request, make_plan

ROOT = Path(__file__).parent.parent
NO_NUMBER = ["", "x", "nan", "inf", "-inf", "-1", "[1]", "1e999", "-1e9"]
NO_NAME = ["", "nope", "nan", "line\nbreak", "\x1b[31m", "é" * 3000]
NO_PATH = ["", "x" * 300, "new/" + "x" * 300, "y/" * 4000, "/dev/null/x", "a\0b"]
# What an option of each kind must refuse.
INVALID = {
    COUNT: [*NO_NUMBER, "0", "1.5", str(2**63), "9" * 5000],
    TOKENS: [*NO_NUMBER, "0", "1", "1.5", "9" * 5000],
    SEED: [*NO_NUMBER, "0.5", str(2**32)],
    PERCENTAGE: [*NO_NUMBER, "100", "100.0", "1e9"],
    RATIO: [*NO_NUMBER, "0", "-0.0"],
    SECONDS: [*NO_NUMBER, "0", "1e12"],
    PRICE: NO_NUMBER,
    options.folder: [*NO_PATH, "/dev/null", "FILE"],
    options.folder_to_write: [*NO_PATH, "/dev/null", "FILE", "/proc/nowhere"],
    options.existing_folder: [*NO_PATH, "/dev/null", "FILE", "nowhere"],
    options.existing_file: [*NO_PATH, "/dev/null", "nowhere", "FOLDER"],
    options.file_to_write: [*NO_PATH, "FOLDER", "/proc/nowhere/floors.csv"],
    options.criterion: NO_NAME,
    workload: NO_NAME,
    options.model_name: ["", " ", "a\nb", "https://example.org/acme/tiny", "FILE", "/dev/null", "FOLDER"],
}
# Texts whose meaning the command itself looks up.
NAMES = {
    "--dtype",
    "--compute-dtype",
    "--device",
    "--backend",
    "--criterion",
    "--suite",
    "--experiments",
    "--profile",
}
MORE_NAMES = {
    "--dtype": ["int8", "complex64", "float8_e4m3fn"],
    "--device": ["meta", "cuda:99", "hpu", "cpu:x"],
}
NEEDED = {
    "prune": ["MODEL", "--out", "OUT", "--pruning-pct", "10"],
    "evaluate": ["MODEL", "--tasks", "pocket_facts", "--results-dir", "OUT"],
    "profile": ["MODEL", "--workloads", "generated_latency_b1", "--no-energy", "--results-dir", "OUT"],
    "rerun": ["--model", "MODEL", "--ratios", "2.2", "--out", "OUT"],
    "floors": ["--out", "OUT"],
    "diagnose": [],
    "compare": ["FOLDER", "FOLDER"],
    "check": ["FOLDER"],
    "contribute": ["FOLDER", "--name", "Ann"],
}


def actions(command):
    (subparsers,) = [a for a in make_parser([command])._actions if isinstance(a, argparse._SubParsersAction)]
    return [a for a in subparsers.choices[command]._actions if not isinstance(a, argparse._HelpAction)]


def test_every_command_names_each_dtype_that_weights_can_have():
    found = [a for command in NEEDED for a in actions(command) if a.option_strings == ["--dtype"]]
    known = {"auto", *(str(dtype).removeprefix("torch.") for dtype in PRUNABLE_DTYPES)}
    assert len(found) == 2 and {action.help for action in found} == {found[0].help}
    assert known <= set(re.findall(r"\w+", found[0].help))


def invalid_values(action):
    """Lists of words to put behind the option; none where any text will do."""
    option = (action.option_strings or [action.dest])[0]
    if action.nargs == 0:
        return []
    if action.type in INVALID:
        found = INVALID[action.type]
    elif action.choices or option in NAMES:
        found = [*NO_NAME, *MORE_NAMES.get(option, [])]
    else:
        return []
    # Where an option may have no value, a word that begins with a dash is one of its own, and named itself.
    return [[value] for value in found if action.nargs != "*" or value[:1] != "-" or value == "-1"]


def replaced(command, action, values, places):
    """The command with everything it needs, and these values for one of its options."""
    words, values = list(NEEDED[command]), [places.get(value, value) for value in values]
    option = action.option_strings[0] if action.option_strings else None
    if option is None:
        position = [a.dest for a in actions(command) if not a.option_strings].index(action.dest)
        words[position : position + 1] = values
    else:
        if option in words:
            start = words.index(option)
            del words[start : start + 2]
        words += [f"{option}={values[0]}"] if len(values) == 1 and action.nargs is None else [option, *values]
    return [command, *(places.get(word, word) for word in words)]


@pytest.fixture
def places(language_model, tmp_path, monkeypatch):
    """A folder to work in whose content a refused command must not change."""
    (tmp_path / "file.txt").write_text("no model")
    (tmp_path / "folder").mkdir()
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("widthprune.reruns.rerun._run", lambda *_: pytest.fail("a rerun was started"))
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("a model was loaded")
    )
    names = {"FILE": "file.txt", "FOLDER": "folder", "OUT": "out"}
    return {"MODEL": language_model} | {name: str(tmp_path / file) for name, file in names.items()}


def wrong(words, option, capsys, tmp_path):
    """What a refusal lacks, or an empty text."""
    before = sorted(tmp_path.rglob("*"))
    status, error = main(words), capsys.readouterr().err
    stem = option.lstrip("-").removesuffix("s")
    if stem.endswith("ie") or stem == "criteria":
        stem = "criteri"
    faults = {
        f"status {status}": status != 2,
        "not one line": not error.startswith("widthprune: error: ") or error.count("\n") != 1,
        "does not name it": not re.search(stem.replace("-", "[-_ ]"), error),
        "wrote": sorted(tmp_path.rglob("*")) != before,
    }
    return "; ".join(fault for fault, there in faults.items() if there) + (
        f": {error!r:.300}" if any(faults.values()) else ""
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_refuses_what_it_must_not_be(command, places, tmp_path, capsys):
    tried, failed = 0, []
    for action in actions(command):
        option = (action.option_strings or [action.dest])[0]
        for values in invalid_values(action):
            words, tried = replaced(command, action, values, places), tried + 1
            if fault := wrong(words, option, capsys, tmp_path):
                failed.append(f"{option} {str(values):.60}: {fault}")
    assert not failed, "\n".join(failed)
    assert tried >= 4


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_several_values_takes_each_once(command, places, tmp_path, capsys):
    good = {COUNT: "3", SEED: "3", PERCENTAGE: "30", RATIO: "2", options.criterion: "PPM"}
    good |= {workload: "generated_latency_b1"}
    for action in actions(command):
        if action.nargs not in ("+", "*"):
            continue
        value = good.get(action.type) or (list(action.choices)[0] if action.choices else "capabilities")
        option = action.option_strings[0]
        assert not wrong(replaced(command, action, [value, value], places), option, capsys, tmp_path)
        assert not wrong(replaced(command, action, [value, option, value], places), option, capsys, tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_options_and_flags_with_values(command, places, tmp_path, capsys):
    for option in ("--nope", "--nope=1", "-x"):
        words = [command, *(places.get(word, word) for word in NEEDED[command]), option]
        assert not wrong(words, option.partition("=")[0], capsys, tmp_path)
    for action in actions(command):
        if action.nargs == 0:
            option = action.option_strings[0]
            words = [command, *(places.get(word, word) for word in NEEDED[command]), f"{option}=1"]
            assert not wrong(words, option, capsys, tmp_path)


CONFLICTS = {
    "--tasks": ["evaluate", "MODEL", "--suite", "pocket", "--tasks", "pocket_facts"],
    "--calibration": ["evaluate", "MODEL", "--calibration", "FILE"],
    "--neuron-seeds": ["evaluate", "MODEL", "--neuron-seeds", "1"],
    "tokenizer": ["profile", "MODEL", "--random-weights", "--workloads", "hellaswag_latency_b1"],
    "--pruning-pct": ["prune", "MODEL", "--out", "OUT", "--pruning-pct", "10", "--expansion-ratio", "2"],
}


@pytest.mark.parametrize("option", CONFLICTS)
def test_options_that_exclude_each_other(option, places, tmp_path, capsys):
    assert not wrong([places.get(word, word) for word in CONFLICTS[option]], option, capsys, tmp_path)


def test_every_option_has_a_kind():
    """A new option is tried as soon as it is there, unless any text is right for it."""
    free = {
        a.option_strings[0]
        for c in COMMANDS
        for a in actions(c)
        if a.option_strings and not invalid_values(a)
    }
    flags = {a.option_strings[0] for c in COMMANDS for a in actions(c) if a.nargs == 0}
    assert free - flags <= {"--name"}


@pytest.mark.parametrize(
    "words", [[], ["nope"], [""], ["measure"], ["measure", "--job", "a", "--threads", "0"]]
)
def test_the_steps_of_a_rerun(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert steps.main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("rerun: ") and error.count("\n") == 1


PYTHON = {
    "limit": [0, -1, 1.5, True, "3"],
    "seed": [-1, 2**32, 0.5, None, "0"],
    "batch_size": [0, "8"],
    "max_length": [0, -5, 1],
    "dtype": ["", "int8", None],
    "device": ["", "nope", "meta"],
    "neuron_seeds": ["12", 3, [-1], [0.5]],
    "pruning_pcts": ["[10]", 10, ["10"], [100], [float("nan")]],
    "expansion_ratios": ["[2.2]", 2.2, ["2"], [0], [float("inf")]],
    "criteria": ["PPM", [1], None],
}


@pytest.mark.parametrize("name", PYTHON)
def test_evaluate_refuses_the_same_of_a_notebook(name, places, tmp_path):
    """Papermill's -p hands a list over as text."""
    before = sorted(tmp_path.rglob("*"))
    for value in PYTHON[name]:
        with pytest.raises(WidthPruneError, match=f"^{name} must|^{name.removesuffix('s')} must|^device"):
            evaluate(places["MODEL"], "pocket_facts", results_dir="results", **{name: value})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_list_as_text_is_told_how_papermill_takes_lists():
    with pytest.raises(
        WidthPruneError, match=r"^ratios must be a list, got '\[2.2\]'.* -y 'ratios: \[...\]'"
    ):
        check_list("ratios", "[2.2]", RATIO)
    with pytest.raises(WidthPruneError, match="-y 'pruning_pcts"):
        grid(88, 32, pruning_pcts="[10]")


@pytest.mark.parametrize("changes", [{"seeds": "42"}, {"seeds": [-1]}, {"multiples": [0]}, {"workloads": "mmlu"},
                                     {"prompts": True}, {"idle_s": float("nan")}, {"device": "x"}])  # fmt: skip
def test_profile_refuses_the_same_of_a_notebook(changes, places, tmp_path):
    with pytest.raises(WidthPruneError, match=next(iter(changes))):
        profile_model(places["MODEL"], **changes, results_dir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("changes", [{"ratios": "2.2"}, {"ratios": [0]}, {"seed": -1}, {"batch_size": 0}, {"limit": 0},
                                     {"criteria": "PPM"}, {"device": "meta"}, {"model": "https://a/b"}])  # fmt: skip
def test_a_plan_refuses_the_same(changes, places, tmp_path):
    with pytest.raises(WidthPruneError, match=next(iter(changes))):
        make_plan(Request(**{"model": places["MODEL"], "ratios": (2.2,)} | changes), ROOT, tmp_path)


def adapter(folder):
    (folder / "adapter_config.json").write_text("{}")


def gguf(folder):
    (folder / "tiny.Q4.gguf").write_bytes(b"GGUF")


NO_MODEL = {
    "holds an adapter, not a model": adapter,
    "holds only GGUF weights: name the file": gguf,
    "has no config.json": lambda folder: None,
}


@pytest.mark.parametrize("advice", NO_MODEL)
@pytest.mark.parametrize("command", ["prune", "evaluate", "profile", "rerun"])
def test_a_folder_that_is_no_model_gets_advice(command, advice, places, tmp_path, capsys):
    NO_MODEL[advice](tmp_path / "folder")
    words = [places.get("FOLDER" if word == "MODEL" else word, word) for word in NEEDED[command]]
    assert main([command, *words]) == 2
    assert advice in capsys.readouterr().err


def test_a_reader_who_has_seen_enough(places, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        assert main(["prune", places["MODEL"], "--out", "out", "--pruning-pct", "10", "--dry-run"]) == 1


def test_streams_that_are_closed(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    command = f"exec {sys.executable} -m widthprune check {tmp_path}"
    assert subprocess.run(f"{command} <&- >&- 2>&-", shell=True).returncode == 2
    found = subprocess.run(f"{command} >&-", shell=True, stderr=subprocess.PIPE, text=True)
    assert found.returncode == 2 and found.stderr.endswith("1 problem in 1 file\n")
    # Without the opening, the file would get a closed stream's number, and what is printed.
    code = "import widthprune.__main__ as m; m._open_closed_streams(); f = open('b', 'w'); print(1); assert f.fileno() > 2"
    words = f'cd {tmp_path} && exec {sys.executable} -c "{code}" <&- >&- 2>&-'
    assert subprocess.run(words, shell=True).returncode == 0 and (tmp_path / "b").read_text() == ""


def test_a_system_error_is_one_line(places, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "out/\nfile")

    monkeypatch.setattr("widthprune.checkpoints.stream.prune_checkpoint", full)
    assert main(["prune", places["MODEL"], "--out", "out", "--pruning-pct", "10"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("widthprune: error: [Errno 28] No space left") and error.count("\n") == 1


def test_a_library_that_breaks_is_one_line(places, capsys, monkeypatch):
    def breaks(*_, **__):
        raise type("PanicException", (BaseException,), {})("index out of bounds:\nthe len is 3")

    monkeypatch.setattr("widthprune.checkpoints.stream.prune_checkpoint", breaks)
    assert main(["prune", places["MODEL"], "--out", "out", "--pruning-pct", "10"]) == 2
    error = capsys.readouterr().err
    assert (
        "broke the library that reads it (index out of bounds:\\nthe len is 3)" in error
        and error.count("\n") == 1
    )


def test_a_parser_names_the_option():
    parser = Parser(prog="it")
    parser.add_argument("--limit", type=COUNT)
    with pytest.raises(
        WidthPruneError, match="^--limit must be a whole number of at least 1, got '0'; `it --help`"
    ):
        parser.parse_args(["--limit", "0"])
    assert json.dumps(vars(parser.parse_args(["--limit", "3"]))) == '{"limit": 3}'
