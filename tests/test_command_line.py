"""The command line: what it makes, and one line and exit code 2 for bad input."""

import json
import logging
import subprocess
import sys

import pytest
import torch
from conftest import logits, tiny_model
from transformers import AutoModelForCausalLM, MambaConfig, MambaForCausalLM

from widthprune import load_results, prune_model
from widthprune.__main__ import COMMANDS, main


def test_prune_writes_the_pruned_model(language_model, tmp_path, capsys):
    out = tmp_path / "small"
    assert main(["prune", language_model, "--out", str(out), "--pruning-pct", "50"]) == 0
    printed = capsys.readouterr().out.split()
    assert printed[printed.index("size") + 1 :][:2] == ["88", "44"] and printed[-1] == str(out)
    expected = prune_model(AutoModelForCausalLM.from_pretrained(language_model), pruning_pct=50)
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(out)), logits(expected))
    assert (out / "tokenizer.json").exists()


def test_prune_writes_several_models_in_one_pass(language_model, tmp_path, capsys):
    arguments = ["prune", language_model, "--out", str(tmp_path / "small"), "--expansion-ratio", "2.4", "1.5"]
    assert main([*arguments, "--dry-run"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("intermediate size") == 4
    for ratio, size in (("2.4", 77), ("1.5", 48)):
        config = json.loads((tmp_path / "small" / f"expansion-ratio-{ratio}" / "config.json").read_text())
        assert config["intermediate_size"] == size


def test_evaluate_prints_and_writes(language_model, tmp_path, capsys):
    arguments = ["--tasks", "pocket_facts", "--pruning-pcts", "0", "20", "--limit", "3"]
    assert main(["evaluate", language_model, *arguments, "--results-dir", str(tmp_path)]) == 0
    assert "pocket_facts" in capsys.readouterr().out
    assert len(load_results(tmp_path)["intermediate_size"].unique()) == 2


BAD = {
    "both targets": (["--pruning-pct", "10", "--expansion-ratio", "2"], "exactly one of them; got both"),
    "no target": ([], "exactly one of them; got neither"),
    "percentage": (["--pruning-pct", "100"], "--pruning-pct must be in [0, 100), got '100'"),
    "ratio": (["--expansion-ratio", "3"], "expansion_ratio must be in (0, 2.7500]"),
    "criterion": (["--pruning-pct", "10", "--criterion", "MOW"], "criterion must be one of PPM, MAW"),
    "option": (["--pruning-pct", "10", "--fast"], "unrecognized arguments: --fast"),
    "number": (["--pruning-pct", "ten"], "--pruning-pct must be in [0, 100), got 'ten'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options(case, language_model, tmp_path, capsys):
    options, message = BAD[case]
    assert main(["prune", language_model, "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("widthprune: error: ") and error.count("\n") == 1 and message in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dtype", "float7"], "dtype must be one of auto, float32"),
        (["--device", "abacus"], "device abacus is not to be had"),
        (["--suite", "pocket", "--tasks", "mmlu"], "give --suite or --tasks, not both"),
    ],
)
def test_bad_options_of_evaluate(options, message, language_model, tmp_path, capsys):
    results = tmp_path / "results"
    assert main(["evaluate", language_model, *options, "--results-dir", str(results)]) == 2
    assert message in capsys.readouterr().err and not results.exists()


def _without_mlp(path):
    MambaForCausalLM(MambaConfig(hidden_size=8, num_hidden_layers=1, vocab_size=20)).save_pretrained(path)


def _with_nan(path):
    model = tiny_model()
    model.model.layers[1].mlp.up_proj.weight.data[3, 4] = float("nan")
    model.save_pretrained(path)


def _cut_in_half(path):
    tiny_model().save_pretrained(path)
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def _quantized(path):
    tiny_model().save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (path / "config.json").write_text(json.dumps(config))


def _pickle(path):
    tiny_model().save_pretrained(path)
    (path / "model.safetensors").unlink()
    torch.save({}, path / "pytorch_model.bin")


def _remote_code(path):
    path.mkdir()
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.M"}}
    (path / "config.json").write_text(json.dumps(config))


MODELS = {
    "no MLP": (_without_mlp, "has no MLP of a known layout"),
    "NaN": (_with_nan, "layers.1.mlp: gate and up must be finite"),
    "cut in half": (_cut_in_half, "is a damaged safetensors file"),
    "quantized": (_quantized, "quantize"),
    "pickle": (_pickle, "holds pickle weights"),
    "remote code": (_remote_code, "wants to run code from its repository"),
}


@pytest.mark.parametrize("case", MODELS)
def test_bad_models(case, tmp_path, capsys):
    make, message = MODELS[case]
    make(tmp_path / "model")
    assert (
        main(["prune", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--pruning-pct", "10"]) == 2
    )
    error = capsys.readouterr().err
    line = next(line for line in error.splitlines() if line.startswith("widthprune: error: "))
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_output_that_exists_is_not_touched(language_model, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert main(["prune", language_model, "--out", str(tmp_path / "out"), "--pruning-pct", "10"]) == 2
    assert "exists already: name a new directory" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_damaged_results_file_is_named_and_deleting_it_heals(language_model, tmp_path, capsys):
    command = ["evaluate", language_model, "--tasks", "pocket_facts", "--pruning-pcts", "0", "--limit", "2"]
    command += ["--results-dir", str(tmp_path)]
    assert main(command) == 0
    (file,) = tmp_path.rglob("*.json")
    file.write_text(file.read_text()[:200])
    assert main(command) == 2
    assert f"{file} is not a whole results file" in capsys.readouterr().err
    file.unlink()
    assert main(command) == 0


def test_python_m_and_the_exit_code():
    command = [sys.executable, "-m", "widthprune", "prune"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("widthprune: error: the following arguments are required: model, --out")


IMPORTS = {
    "import os\nint(os.environ['ITS_TIMEOUT'])": "(ValueError: invalid literal for int() with base 10: 'soon'): set or unset ITS_TIMEOUT",
    "import no_such_package": "(ModuleNotFoundError: No module named 'no_such_package'): install no_such_package",
}


@pytest.mark.parametrize("code", IMPORTS)
def test_a_package_that_cannot_be_imported(code, tmp_path, capsys, monkeypatch):
    """Some read the environment when they are imported, and their error does not name the variable."""
    (tmp_path / "stranger.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ITS_TIMEOUT", "soon")
    monkeypatch.setitem(COMMANDS, "prune", "stranger")
    assert main(["prune", "--help"]) == 2
    assert capsys.readouterr().err == f"widthprune: error: stranger cannot be imported {IMPORTS[code]}\n"


def test_a_name_of_any_length_is_not_echoed_whole(capsys):
    assert main(["prune", "x" * 5000 + "://", "--pruning-pct", "20", "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert len(error) < 2100 and error.startswith("widthprune: error: argument model: model xxx")
    assert "name the hub id in it, OWNER/NAME, or a local directory; `" in error


def test_a_fault_of_our_own_is_not_told_as_one_of_a_package(monkeypatch):
    monkeypatch.setattr("widthprune.__main__.make_parser", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main([])


def test_the_tries_of_a_download_that_breaks_off_are_not_told_one_by_one(capsys, caplog):
    main(["prune"])
    log = logging.getLogger("huggingface_hub.file_download")
    for what in ("Trying to resume download...", "Max retries exceeded."):
        log.warning("Error while downloading from %s: %s\n" + what, "https://hub", "peer closed connection")
    log.warning("Could not set the permissions")
    assert [record.getMessage() for record in caplog.records] == ["Could not set the permissions"]
