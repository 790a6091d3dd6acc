"""What a dry run, and every run, finds out before it works: the model's files, its class, the places."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from conftest import SMALL, tiny_model
from families import byte_tokenizer
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from widthprune import WidthPruneError, load_model
from widthprune.__main__ import main
from widthprune.evaluation.readiness import check_results_dir
from widthprune.models.loading import model_shape
from widthprune.report.runs import public_name
from widthprune.reruns.fingerprint import scoring_code

VOCABULARY = len(byte_tokenizer())  # fewer than the rows of the model's embedding
TEXT = SMALL | {"num_hidden_layers": 1}


def without_weights(model):
    (model / "model.safetensors").unlink()


def pickled(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def cut(model):
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:100])


def without_a_shard(model):
    tiny_model(vocab_size=300).save_pretrained(model, max_shard_size="40KB")
    next(model.glob("model-00002*")).unlink()
    (model / "model.safetensors").unlink(missing_ok=True)


def without_an_index(model):
    tiny_model(vocab_size=300).save_pretrained(model, max_shard_size="40KB")
    (model / "model.safetensors").unlink(missing_ok=True)
    (model / "model.safetensors.index.json").unlink()


def index_of_nothing(model):
    without_an_index(model)
    (model / "model.safetensors.index.json").write_text('{"weight_map": {}}')


def tokenizer_of_more_tokens(model):
    content = json.loads((model / "tokenizer.json").read_text())
    token = content["added_tokens"][0] | {"special": False}
    content["added_tokens"] += [token | {"id": i, "content": f"word{i}"} for i in range(VOCABULARY, 301)]
    (model / "tokenizer.json").write_text(json.dumps(content))


def without_tokenizer(model):
    for path in model.glob("*token*"):
        path.unlink()


def multimodal(model):
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    LlavaForConditionalGeneration(
        LlavaConfig(text_config=LlamaConfig(**TEXT), vision_config=vision)
    ).save_pretrained(model)


def classifier(model):
    LlamaForSequenceClassification(LlamaConfig(**TEXT)).save_pretrained(model)


def config_of_more_layers(model):
    change(model, num_hidden_layers=9)


def config_of_another_size(model):
    change(model, intermediate_size=87)


def change(model, **fields):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | fields))


def config_of_no_dtype(model):
    change(model, dtype=-1)


def tokenizer_cut(model):
    (model / "tokenizer.json").write_text("{")


def tokenizer_without_an_end(model):
    (model / "tokenizer_config.json").write_text("{}")


def tokenizer_with_code(model):
    named = {"tokenizer_class": "X", "auto_map": {"AutoTokenizer": ["code.X", None]}}
    (model / "tokenizer_config.json").write_text(json.dumps(named))


def without_config(model):
    (model / "config.json").unlink()


def adapter(model):
    (model / "adapter_config.json").write_text("{}")


def generation_config_of_nothing(model):
    (model / "generation_config.json").write_text("null")


BROKEN = {
    generation_config_of_nothing: "cannot be loaded",
    adapter: "holds an adapter, not a model: merge it",
    without_weights: "holds no safetensors weights",
    pickled: "holds pickle weights",
    cut: "is a damaged safetensors file",
    without_a_shard: "is missing, though model.safetensors.index.json names it",
    without_an_index: "holds safetensors files, and neither model.safetensors nor model.safetensors.index.json",
    index_of_nothing: "model.safetensors.index.json is damaged: copy it again",
    tokenizer_of_more_tokens: "has tokens up to number 300, and the model's embedding 300 rows",
    without_tokenizer: "holds no tokenizer",
    multimodal: "holds a LlavaForConditionalGeneration, which transformers does not load as a language model",
    classifier: "holds a LlamaForSequenceClassification, which transformers does not load",
    without_config: "has no config.json",
    config_of_more_layers: "which the weights do not hold: copy the whole model again",
    config_of_another_size: "of shape [87, 32], and the weights hold [88, 32]",
    config_of_no_dtype: "copy the model's config.json and weights again",
    tokenizer_cut: "copy its files again",
    tokenizer_without_an_end: "names no token that begins or ends a text",
    tokenizer_with_code: "wants to run code from its repository, which is refused",
}
COMMANDS = {
    "evaluate": ["evaluate", "MODEL", "--tasks", "pocket_facts", "--pruning-pcts", "0", "20", "--limit", "2"],
    "profile": ["profile", "MODEL", "--no-energy", "--pruning-pcts", "0", "--seeds", "1", "--prompts", "1"],
    "rerun": ["rerun", "--model", "MODEL", "--ratios", "2.2", "--limit", "2"],
}


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "run"])
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_a_model_that_could_not_be_loaded(
    breaks, command, dry, language_model, tmp_path, capsys, monkeypatch
):
    model, here = tmp_path / "model", tmp_path / "here"
    shutil.copytree(language_model, model)
    here.mkdir()
    breaks(model)
    monkeypatch.chdir(here)
    monkeypatch.delenv("WIDTHPRUNE_DATA", raising=False)
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("it was loaded")
    )
    words = [str(model) if word == "MODEL" else word for word in COMMANDS[command]]
    if command == "profile":
        # Only texts need a tokenizer.
        words += ["--workloads", "hellaswag_latency_b1"]
    capsys.readouterr()
    assert main([*words, *dry]) == 2
    error = capsys.readouterr().err
    assert error.startswith("widthprune: error: ") and error.count("\n") == 1 and BROKEN[breaks] in error
    assert list(here.iterdir()) == []


TOKENIZERS = {
    "cut": lambda model: (model / "tokenizer.json").write_text("{"),
    "a folder": lambda model: ((model / "tokenizer.json").unlink(), (model / "tokenizer.json").mkdir()),
    "a link to nowhere": lambda model: (
        (model / "tokenizer.json").unlink(),
        (model / "tokenizer.json").symlink_to("nowhere"),
    ),
    "config cut": lambda model: (model / "tokenizer_config.json").write_text("{"),
    "config a list": lambda model: (model / "tokenizer_config.json").write_text("[]"),
}


@pytest.mark.parametrize("breaks", TOKENIZERS)
def test_a_workload_without_texts_is_refused_by_a_dry_run_as_by_a_run(
    breaks, language_model, tmp_path, capsys
):
    """Loading a model reads its tokenizer, whether or not the prompts are generated tokens."""
    model = shutil.copytree(language_model, tmp_path / "model")
    TOKENIZERS[breaks](model)
    words = [str(model) if word == "MODEL" else word for word in COMMANDS["profile"]]
    words += ["--workloads", "generated_latency_b1", "--max-new-tokens", "2"]
    words += ["--results-dir", str(tmp_path / "results")]
    said = []
    for more in (["--dry-run"], []):
        status = main([*words, *more])
        said.append((status, capsys.readouterr().err))
    assert said[0][0] == said[1][0] == 2 and said[0][1] == said[1][1] and said[0][1].count("\n") == 1


@pytest.mark.parametrize("command", ["evaluate", "profile"])
def test_a_dry_run_counts_and_writes_nothing(command, language_model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [language_model if word == "MODEL" else word for word in COMMANDS[command]]
    if command == "profile":
        words += ["--workloads", "generated_latency_b1", "--max-new-tokens", "2"]
    assert main([*words, "--dry-run"]) == 0
    assert "2 runs asked, 0 of them stored, 2 to measure; nothing was written" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert main(words) == 0
    assert main([*words, "--dry-run"]) == 0
    assert "2 runs asked, 2 of them stored, 0 to measure" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_cannot_be_written(command, language_model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [language_model if word == "MODEL" else word for word in COMMANDS[command]]
    option = "--store" if command == "rerun" else "--results-dir"
    for place in ("/proc/nowhere", "/dev/null/x", "x" * 300):
        assert main([*words, option, place, "--dry-run"]) == 2
        error = capsys.readouterr().err
        assert option.lstrip("-") in error.replace("_", "-") and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_s_own_folder_that_is_somebody_s_file(command, language_model, tmp_path, capsys):
    words = [language_model if word == "MODEL" else word for word in COMMANDS[command]]
    option = "--store" if command == "rerun" else "--results-dir"
    theirs = tmp_path / (scoring_code(False) if command == "rerun" else "") / Path(language_model).name
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("mine")
    assert main([*words, option, str(tmp_path), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert option.lstrip("-") in error.replace("_", "-") and str(theirs) in error and error.count("\n") == 1
    assert theirs.read_text() == "mine"


def test_a_result_whose_name_would_be_too_long(tmp_path):
    """Also where the folder is not there yet, in which no name is looked for."""
    for name in ("x" * 250, "y" * 300):
        with pytest.raises(WidthPruneError, match=r"results_dir .*\(File name too long\)"):
            check_results_dir(tmp_path / "new", [tmp_path / "new" / "model" / f"{name}.json"])


def test_data_that_is_not_there(language_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WIDTHPRUNE_DATA", str(tmp_path))
    words = [
        "evaluate",
        language_model,
        "--tasks",
        "piqa",
        "--results-dir",
        str(tmp_path / "out"),
        "--dry-run",
    ]
    assert main(words) == 2
    assert "tasks: none can be measured: piqa: no file piqa/validation.jsonl" in capsys.readouterr().err


def test_an_answer_that_does_not_fit_is_told(language_model, tmp_path, capsys):
    words = ["evaluate", language_model, "--tasks", "pocket_facts", "--pruning-pcts", "--limit", "1"]
    assert main([*words, "--max-length", "2", "--results-dir", str(tmp_path)]) == 2
    assert (
        "missing: pocket_facts: an answer of it has no tokens, or more than max_length, which is 2"
        in capsys.readouterr().out
    )
    assert list(tmp_path.iterdir()) == []


ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
HUGE = "{% set s = 'a' * 10**14 %}{{ s }}"
LARGE = ["{{ 'a' * 3 * 10**9 }}"] * (sys.platform == "linux")  # elsewhere no system refuses the memory
ENDLESS_IN_C = "{{ 9 ** (9**9) }}"


@pytest.mark.parametrize(
    "template",
    ["{{ ''.__class__.__mro__ }}", "{% for", "{{ 1 / 0 }}", ENDLESS, ENDLESS_IN_C, HUGE, *LARGE],
)
def test_a_chat_template_that_fails_is_found_before_any_work(
    template, language_model, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("widthprune.models.templates.SECONDS", 0.5)
    model = tmp_path / "model"
    shutil.copytree(language_model, model)
    (model / "chat_template.jinja").write_text(template)
    words = ["evaluate", str(model), "--tasks", "pocket_facts", "--chat-template", "--dry-run"]
    assert main([*words, "--results-dir", str(tmp_path / "results")]) == 2
    error = capsys.readouterr().err
    assert f"the chat template of {model} fails" in error and error.count("\n") == 1


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("size", ["hidden_size", "intermediate_size", "max_position_embeddings"])
def test_a_size_of_zero(size, language_model, tmp_path):
    model = shutil.copytree(language_model, tmp_path / "model")
    change(model, **{size: 0})
    with pytest.raises(WidthPruneError, match="config.json has a size of 0|has 0 neurons"):
        model_shape(str(model))


def test_weights_under_names_that_are_converted_are_checked_as_they_load(language_model, tmp_path):
    """transformers renames the tensors of some checkpoints, here those without the prefix of the whole model."""
    model = shutil.copytree(language_model, tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "layers.1.mlp.up_proj" not in name}
    save_file(
        kept | {"other.weight": kept["model.norm.weight"].clone()},
        model / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(WidthPruneError, match=r"the weights lack model.layers.1.mlp.up_proj.weight, which"):
        load_model(str(model))


def test_measuring_outside_a_clone_prints_nothing_of_git(language_model, tmp_path, capfd, monkeypatch):
    """lm-eval asks git for the commit of the current directory."""
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", language_model, "--tasks", "pocket_facts", "--pruning-pcts", "--limit", "1"]
    assert main(words) == 0
    assert "git" not in capfd.readouterr().err
    (file,) = tmp_path.rglob("*.json")
    assert json.loads(file.read_text())["settings"]["limit"] == 1


@pytest.mark.parametrize("command", ["evaluate", "profile"])
def test_a_models_folder_that_cannot_be_made_is_found_before_the_work(
    command, language_model, tmp_path, capsys
):
    words = [language_model if word == "MODEL" else word for word in COMMANDS[command]]
    if command == "profile":
        words += ["--workloads", "generated_latency_b1"]
    folder = tmp_path / public_name(language_model)
    for make in (folder.touch, lambda: folder.symlink_to("nowhere/else")):
        make()
        for dry in (["--dry-run"], []):
            assert main([*words, *dry, "--results-dir", str(tmp_path)]) == 2
            error = capsys.readouterr().err
            assert "results_dir must be a folder that can be written" in error and error.count("\n") == 1
        folder.unlink()


def test_a_token_that_no_text_becomes_may_have_no_row(language_model, tmp_path):
    """Gemma-3 of text alone shares its tokenizer with a sibling that sees images."""
    model = shutil.copytree(language_model, tmp_path / "model")
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<{i}>" for i in range(VOCABULARY, 301)]})
    tokenizer.save_pretrained(model)
    assert max(load_model(str(model))[1].get_vocab().values()) == 300
    tokenizer.eos_token = "<300>"
    tokenizer.save_pretrained(model)
    with pytest.raises(
        WidthPruneError, match="has tokens up to number 300, and the model's embedding 300 rows"
    ):
        load_model(str(model))
