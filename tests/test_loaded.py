"""Pruning a checkpoint by way of the model in memory: the command, what it writes, what it refuses."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import logits, tiny_model
from test_global_widths import gemma3n
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForCausalLM, AutoTokenizer, MixtralConfig, PreTrainedTokenizerFast

from widthprune import CALIBRATED, WidthPruneError, calibrate, load_model, prune_model
from widthprune.__main__ import main
from widthprune.calibration import Calibration
from widthprune.checkpoints.loaded import prune_loaded
from widthprune.checkpoints.stream import prune_checkpoint

OWN = ["the question and the answer", "of the test"]


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.jsonl").write_text("".join(json.dumps(line) + "\n" for line in OWN))
    return str(tmp_path / "text.jsonl")


@pytest.mark.parametrize("criterion", CALIBRATED)
def test_the_command_writes_what_prune_model_makes(criterion, language_model, text, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["prune", language_model, "--out", str(out), "--criterion", criterion.lower()]
    assert main([*command, "--pruning-pct", "30", "--calibration", text]) == 0
    model, tokenizer = load_model(language_model)
    activations = calibrate(model, tokenizer, Calibration(OWN), gradients=criterion == "TAYLOR")
    expected = prune_model(model, criterion, pruning_pct=30, activations=activations)
    written = AutoModelForCausalLM.from_pretrained(out).eval()
    assert torch.equal(logits(written), logits(expected))
    assert (written.config.intermediate_size, written.config.mlp_bias) == (62, criterion == "FLAP-BIAS")
    assert AutoTokenizer.from_pretrained(out)("the test").input_ids == tokenizer("the test").input_ids
    printed = capsys.readouterr().out.replace(",", "").split()
    assert printed[printed.index("parameters") + 2] == str(sum(p.numel() for p in written.parameters()))
    card = (out / "README.md").read_text()
    assert f"--criterion {criterion} --pruning-pct 30 --calibration text.jsonl --out DIRECTORY" in card
    assert str(tmp_path) not in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "text.jsonl"]


def test_global_widths_where_the_config_lists_them(tmp_path):
    model = gemma3n([96, 64, 80])
    model.save_pretrained(tmp_path / "model")
    options = ["--criterion", "L2", "--pruning-pct", "30", "--multiple-of", "4", "--global"]
    assert main(["prune", str(tmp_path / "model"), "--out", str(tmp_path / "out"), *options]) == 0
    expected = prune_model(model, "L2", pruning_pct=30, multiple_of=4, global_widths=True)
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert written.config.intermediate_size == expected.config.intermediate_size
    assert torch.equal(logits(written), logits(expected))
    assert "--pruning-pct 30 --multiple-of 4 --global" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("criterion", ["AMP", "FLAP-BIAS"])
def test_a_dry_run_writes_nothing_and_plans_the_same(criterion, language_model, text, tmp_path):
    options = dict(pruning_pct=30, calibration=Calibration(text))
    plan = prune_loaded(language_model, tmp_path / "out", criterion, dry_run=True, **options)
    assert not (tmp_path / "out").exists()
    made = prune_loaded(language_model, tmp_path / "out", criterion, progress=False, **options)
    assert plan == replace(made, bytes_free=plan.bytes_free)


def _saved(make):
    def save(path):
        make().save_pretrained(path)

    return save


def _mixture():
    sizes = dict(hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4)
    config = MixtralConfig(**sizes, num_key_value_heads=2, vocab_size=97, num_local_experts=4)
    return AutoModelForCausalLM.from_config(config)


class short_model:
    """Saves a model of 64 positions with a tokenizer."""

    def save_pretrained(self, path):
        tiny_model(vocab_size=300).save_pretrained(path)
        tokenizer = Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>"))
        tokenizer.pre_tokenizer = Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(path)


BAD = {
    "global": (
        tiny_model,
        ["--global"],
        "LlamaForCausalLM with a width of its own in each layer cannot be saved",
    ),
    "bias": (
        lambda: tiny_model("qwen2"),
        ["--criterion", "FLAP-BIAS"],
        "the config of Qwen2ForCausalLM has no mlp_bias to declare one: use FLAP",
    ),
    "experts": (
        _mixture,
        ["--criterion", "ACT"],
        "is a mixture of experts, whose neurons cannot be listened to",
    ),
    "global experts": (_mixture, ["--global"], "global widths need MLPs without experts"),
    "no tokenizer": (tiny_model, ["--criterion", "ACT"], "calibrating needs a tokenizer"),
    "no text": (
        tiny_model,
        ["--criterion", "ACT", "--calibration", "absent"],
        "--calibration must be a file that can be read, got 'absent'",
    ),
    "text for nothing": (tiny_model, ["--calibration", __file__], "criterion PPM looks at no data"),
    "sequences": (
        tiny_model,
        ["--criterion", "ACT", "--calibration-sequences", "0"],
        "--calibration-sequences must be a whole number of at least 1, got '0'",
    ),
    "positions": (
        short_model,
        ["--criterion", "ACT"],
        "calibration length must be at most the model's 64 positions, got",
    ),
    "several": (tiny_model, ["--criterion", "ACT", "--pruning-pct", "10", "20"], "write one model at a time"),
    "unknown": (tiny_model, ["--criterion", "ACTS"], "PPM-ACT, got 'ACTS'"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["write", "dry"])
def test_bad_input_leaves_nothing(case, dry, tmp_path, capsys):
    make, options, message = BAD[case]
    make().save_pretrained(tmp_path / "model")
    command = ["prune", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    pct = [] if "--pruning-pct" in options else ["--pruning-pct", "30"]
    assert main([*command, *pct, *options, *dry]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("widthprune: error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_stream_of_weights_sends_on_what_looks_at_data(language_model, tmp_path):
    with pytest.raises(WidthPruneError, match="criterion ACT looks at data, and passing over the weights"):
        prune_checkpoint(language_model, tmp_path / "out", "ACT", pruning_pct=10)
