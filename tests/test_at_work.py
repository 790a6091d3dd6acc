"""What breaks at work alone: the formulas, the tokenizer and the template of a model, on texts longer than those tried."""

import json
import shutil

import pytest
from conftest import tiny_model
from families import byte_tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, RobertaConfig

from widthprune.__main__ import main
from widthprune.errors import one_line

SMALL = {"vocab_size": 300, "max_position_embeddings": 130}
# As many places as the config says, or fewer: RoBERTa counts from behind the padding.
FEW_PLACES = {
    "gpt2": GPT2Config(n_embd=32, n_head=4, n_layer=1, **SMALL),
    "roberta": RobertaConfig(
        hidden_size=32,
        num_attention_heads=4,
        num_hidden_layers=1,
        intermediate_size=88,
        is_decoder=True,
        **SMALL,
    ),
}
PROFILE = [
    "--workloads",
    "generated_latency_b1",
    "--no-energy",
    "--prompts",
    "1",
    "--seeds",
    "1",
    "--pruning-pcts",
]
CALIBRATED = ["--criterion", "TAYLOR", "--calibration-sequences", "2", "--pruning-pct", "20"]


@pytest.fixture(params=FEW_PLACES)
def of_few_places(request, tmp_path):
    AutoModelForCausalLM.from_config(FEW_PLACES[request.param]).save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def changed(language_model, tmp_path, file, text):
    model = shutil.copytree(language_model, tmp_path / "model")
    (model / file).write_text(
        text if isinstance(text, str) else json.dumps(json.loads((model / file).read_text()) | text)
    )
    return str(model)


def refused(words, said, capsys):
    capsys.readouterr()
    assert main(words) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("widthprune: ")]
    assert len(error) == 1 and said in error[0]


def left_out(words, tmp_path, capsys):
    """The lines of what could not be measured, where that is all; nothing is written of it."""
    assert main([*words, "--limit", "1", "--pruning-pcts", "--results-dir", str(tmp_path / "results")]) == 2
    printed = capsys.readouterr()
    assert "widthprune: error: nothing could be measured: " in printed.err
    return [line for line in printed.out.splitlines() if line.startswith("missing: ")]


def test_places_that_end_before_the_text(of_few_places, tmp_path, capsys):
    prose = ["evaluate", of_few_places, "--tasks", "pocket_prose", "--max-length", "500"]
    (line,) = left_out(prose, tmp_path, capsys)
    assert "out of" in line and line.count("give a smaller max_length, or leave the task out") == 1
    assert not list(tmp_path.rglob("results/**/*.json"))
    words = [
        "profile",
        of_few_places,
        *PROFILE,
        "--max-new-tokens",
        "200",
        "--results-dir",
        str(tmp_path / "p"),
    ]
    refused(words, "fails on a prompt (", capsys)


def test_a_field_that_only_running_or_saving_looks_at(language_model, tmp_path, capsys):
    for field, said in {
        "return_dict": "calibration text (AttributeError",
        "output_attentions": "cannot be saved",
    }.items():
        model = changed(
            language_model, tmp_path / field, "config.json", {field: field == "output_attentions"}
        )
        refused(["prune", model, *CALIBRATED, "--out", str(tmp_path / "out")], said, capsys)
        assert [path.name for path in tmp_path.iterdir() if path.name[0] == "." or path.name == "out"] == []


@pytest.mark.parametrize("end", ["</s>", ["</s>"], 2.5, {"a": 1}, True])
def test_ends_that_are_no_tokens(end, language_model, tmp_path, capsys):
    model = changed(language_model, tmp_path, "generation_config.json", {"eos_token_id": end})
    words = ["profile", model, *PROFILE, "--max-new-tokens", "2", "--results-dir", str(tmp_path / "results")]
    refused(words, "eos_token_id must be numbers of tokens", capsys)


LATER = {
    "{% if messages[0].content|length > 20 %}{{ 1 / 0 }}{% endif %}x": "(ZeroDivisionError: division by zero)",
    "{% if messages[0].content|length > 20 %}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    "{% endif %}x": "does not end on a prompt (it takes more than 2 seconds)",
}  # fmt: skip


@pytest.mark.parametrize("template", LATER)
def test_a_template_that_fails_on_a_longer_text(template, language_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("widthprune.models.templates.SECONDS", 2)
    model = changed(language_model, tmp_path, "chat_template.jinja", template)
    (line,) = left_out(["evaluate", model, "--tasks", "pocket_facts", "--chat-template"], tmp_path, capsys)
    assert LATER[template] in line


@pytest.mark.parametrize(
    "tensor", ["model.layers.1.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight"]
)
def test_weights_that_are_no_numbers_are_refused_before_the_unpruned_model_is_measured(
    tensor, language_model, tmp_path, capsys
):
    model = shutil.copytree(language_model, tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights[tensor][0] = float("nan")
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    words = ["evaluate", str(model), "--tasks", "pocket_facts", "--limit", "1", "--pruning-pcts", "20"]
    refused(
        [*words, "--results-dir", str(tmp_path / "results")], "must be finite, got NaN or infinity", capsys
    )
    assert not (tmp_path / "results").exists()


NO_MEMORY = (
    type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory.\nTried to allocate 2 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError("Unable to allocate 9 GiB"),
)


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
def test_memory_that_is_not_there(error, language_model, tmp_path, capsys, monkeypatch):
    """No fault of the model's, so no advice to copy it."""
    monkeypatch.setattr("lm_eval.evaluate", lambda *_, **__: (_ for _ in ()).throw(error))
    words = [
        "evaluate",
        language_model,
        "--tasks",
        "pocket_facts",
        "--limit",
        "1",
        "--results-dir",
        str(tmp_path),
    ]
    refused(words, f"out of memory ({one_line(error)}): free memory", capsys)


def test_data_that_is_damaged(language_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WIDTHPRUNE_DATA", str(tmp_path))
    for text in ("no JSON", '{"goal": 1}\n', ""):
        (tmp_path / "piqa").mkdir(exist_ok=True)
        (tmp_path / "piqa" / "validation.jsonl").write_text(text)
        (line,) = left_out(["evaluate", language_model, "--tasks", "piqa"], tmp_path, capsys)
        assert "piqa: " in line and line.count(": ") >= 2, line


def test_a_tokenizer_of_more_words_than_the_model(tmp_path, capsys):
    tiny_model(vocab_size=97).save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    words = [
        "prune",
        str(tmp_path / "model"),
        *CALIBRATED,
        "--calibration-length",
        "32",
        "--out",
        str(tmp_path / "out"),
    ]
    refused(words, "has tokens up to number 279, and the model's embedding 97 rows", capsys)
