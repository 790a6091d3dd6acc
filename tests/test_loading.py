import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256

import pytest
import torch
from conftest import CONFIGS, logits, tiny_model, write_gguf
from gguf import GGUFReader, dequantize
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError
from safetensors.torch import load_file
from transformers import MambaConfig, MambaForCausalLM

from widthprune import WidthPruneError, load_model
from widthprune.architectures import meta_model, paper_config
from widthprune.checkpoints.stream import prune_checkpoint
from widthprune.errors import pickle_remedy
from widthprune.evaluation.readiness import check_ready
from widthprune.mlps import PRUNABLE_DTYPES, check_layout
from widthprune.models import loading as models
from widthprune.models.conversion import converted
from widthprune.models.files import INDEX, WEIGHTS
from widthprune.models.loading import check_placement
from widthprune.models.packaged import PackagedModel
from widthprune.models.remedies import remedy


@pytest.fixture
def saved(tmp_path, llama):
    llama.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_the_packaged_model_is_the_real_one():
    model, tokenizer = load_model("smollm2-135m-instruct")
    config = model.config
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (576, 1536, 30)
    assert model.dtype == torch.bfloat16 and not model.training
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=1, do_sample=False)[0, -1]
    assert tokenizer.decode(answer).strip() == "Paris"


def test_a_local_directory(saved, llama):
    model, tokenizer = load_model(str(saved))
    assert tokenizer is None
    assert torch.equal(logits(model), logits(llama))
    assert load_model(str(saved), dtype=torch.bfloat16)[0].dtype == torch.bfloat16


def test_the_papers_models_would_be_accepted():
    # The true config, without weights: what load_model checks before it reads any.
    for name in ("Llama-3.2-1B", "Llama-3.2-3B"):
        assert len(check_layout(meta_model(paper_config(name)))) in (16, 28)


def test_a_gguf_file_is_converted_once(gguf_file, tmp_path, monkeypatch):
    monkeypatch.setenv("WIDTHPRUNE_CACHE", str(tmp_path))
    model, tokenizer = load_model(str(gguf_file))
    assert model.dtype == torch.bfloat16 and tokenizer("a b").input_ids
    written = dict(GGUFReader(gguf_file).tensors[6]._asdict())
    rows = dequantize(written["data"], written["tensor_type"])
    gate = model.model.layers[0].mlp.gate_proj.weight
    assert written["name"] == "blk.0.ffn_gate.weight" and torch.equal(gate, torch.tensor(rows).bfloat16())
    digest = sha256(gguf_file.read_bytes()).hexdigest()[:16]
    assert [path.name.startswith(f"tiny-{digest}-bfloat16") for path in tmp_path.iterdir()] == [True]
    assert models.model_revision(str(gguf_file)) == f"sha256:{digest}"
    assert models.model_shape(str(gguf_file)) == (64, 32)


@pytest.mark.parametrize("named", ["", None])
def test_a_user_without_a_home(named, gguf_file, monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    monkeypatch.delenv("WIDTHPRUNE_CACHE", raising=False)
    if named is not None:
        monkeypatch.setenv("WIDTHPRUNE_CACHE", named)
    refused(gguf_file, "there is no home directory to keep models in: set WIDTHPRUNE_CACHE")


def test_a_conversion_that_stops_leaves_nothing(gguf_file, tmp_path, monkeypatch):
    monkeypatch.setenv("WIDTHPRUNE_CACHE", str(tmp_path))

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(models.AutoTokenizer, "from_pretrained", stop)
    with pytest.raises(KeyboardInterrupt):
        load_model(str(gguf_file))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_conversion_left_is_removed(gguf_file, tmp_path, monkeypatch):
    monkeypatch.setenv("WIDTHPRUNE_CACHE", str(tmp_path))
    killed = "import os; from widthprune.models import conversion as c; c.converted('tiny', lambda to: os.kill(os.getpid(), 9))"
    assert subprocess.run([sys.executable, "-c", killed]).returncode == -signal.SIGKILL
    assert any(path.is_dir() for path in tmp_path.iterdir())
    made = converted("tiny", lambda target: gguf_file)
    assert list(tmp_path.iterdir()) == [made]


def test_two_that_convert_at_once_do_it_once(gguf_file, tmp_path, monkeypatch):
    monkeypatch.setenv("WIDTHPRUNE_CACHE", str(tmp_path))
    asked, both = [], threading.Barrier(2)

    def convert():
        both.wait()
        return converted("tiny", lambda target: asked.append(target) or gguf_file)

    with ThreadPoolExecutor(2) as pool:
        one, other = [done.result() for done in [pool.submit(convert), pool.submit(convert)]]
    assert one == other and len(asked) == 1 and list(tmp_path.iterdir()) == [one]


def test_a_gguf_file_in_capitals(gguf_file, tmp_path, monkeypatch):
    monkeypatch.setenv("WIDTHPRUNE_CACHE", str(tmp_path / "cache"))
    assert load_model(shutil.copy(gguf_file, tmp_path / "TINY.GGUF"))[0].config.hidden_size == 32


def test_the_revision_of_a_directory_counts_every_byte_of_its_weights(saved, llama):
    llama.save_pretrained(saved, max_shard_size="50KB")
    (saved / WEIGHTS).unlink()
    index = json.loads((saved / INDEX).read_text())
    (saved / "sub").mkdir()
    for file in set(index["weight_map"].values()):
        (saved / file).rename(saved / "sub" / file)
    index["weight_map"] = {name: f"sub/{file}" for name, file in index["weight_map"].items()}
    (saved / INDEX).write_text(json.dumps(index))
    before = models.model_revision(str(saved))
    (shard, *_) = sorted((saved / "sub").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert models.model_revision(str(saved)) != before


def test_of_one_file_and_an_index_every_command_reads_the_one(saved, llama):
    tiny_model(seed=1).save_pretrained(saved, max_shard_size="50KB")  # which leaves the one there
    assert (saved / INDEX).exists()
    assert torch.equal(logits(load_model(str(saved))[0]), logits(llama))
    prune_checkpoint(saved, saved.parent / "pruned", pruning_pct=0)
    assert torch.equal(logits(load_model(str(saved.parent / "pruned"))[0]), logits(llama))


INDICES = [[], {"weight_map": []}, {"weight_map": {"a": 1}}, {"weight_map": {"a": None}}]
INDICES += [
    {"weight_map": {"a": name}} for name in ("../x.safetensors", "x" * 300 + ".safetensors", "\0.safetensors")
]


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("reads", [models.model_revision, load_model, check_ready])
def test_a_damaged_index_is_one_line_everywhere(index, reads, saved):
    (saved / WEIGHTS).unlink()
    (saved / INDEX).write_text(json.dumps(index))
    with pytest.raises(WidthPruneError) as error:
        reads(str(saved))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("pair", [("A", "a"), ("\u00e9", "e\u0301")])
def test_shards_that_another_file_system_takes_for_one_are_refused(pair, saved):
    (saved / WEIGHTS).rename(saved / f"{pair[0]}.safetensors")
    names = {f"tensor{i}": f"{letter}.safetensors" for i, letter in enumerate(pair)}
    (saved / INDEX).write_text(json.dumps({"weight_map": names}))
    with pytest.raises(WidthPruneError, match="which are one where letters have no case"):
        models.model_revision(str(saved))


def test_weights_that_the_config_names_are_refused(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"transformers_weights": "other.safetensors"}))
    for reads in (models.model_revision, check_ready, load_model):
        with pytest.raises(WidthPruneError, match="has transformers_weights"):
            reads(str(saved))


@pytest.mark.parametrize(
    "dtype", ["half", "float", "double", "torch.float16", "int8", torch.int8, "float7", "", None]
)
def test_a_dtype_has_one_name(dtype):
    """Under two names, which results are told apart by, one measurement would be two results."""
    with pytest.raises(
        WidthPruneError, match="^dtype must be one of auto, float32, bfloat16, float16, float64, got "
    ):
        check_placement(dtype, "cpu")


@pytest.mark.parametrize("dtype", PRUNABLE_DTYPES)
def test_dtypes_that_weights_can_have(dtype):
    for known in (dtype, str(dtype).removeprefix("torch."), "auto"):
        check_placement(known, "cpu")


def test_how_weights_are_stored(saved, gguf_file):
    assert models.stored_format(str(saved)) == "float32"
    assert models.stored_format(str(gguf_file)) == "GGUF, dequantized to bfloat16"
    assert models.stored_format("gemma3-270m") == "Q4_K_M, dequantized to bfloat16"


def test_a_gguf_file_among_strange_configs_runs_no_code(gguf_file, tmp_path, monkeypatch):
    monkeypatch.setenv("WIDTHPRUNE_CACHE", str(tmp_path / "cache"))
    shutil.copy(gguf_file, tmp_path / "model.gguf")
    automatic = {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(automatic))
    (tmp_path / "evil.py").write_text("raise SystemExit('this must never run')")
    monkeypatch.setattr("builtins.input", lambda *asked: "y")
    with contextlib.suppress(WidthPruneError):
        load_model(str(tmp_path / "model.gguf"))


# Bad input: one line that says what to do.


def refused(name, match):
    with pytest.raises(WidthPruneError, match=match) as error:
        load_model(str(name))
    assert "\n" not in str(error.value)


def test_a_missing_package(monkeypatch):
    monkeypatch.setattr(
        models,
        "PACKAGED",
        {"x": PackagedModel("no-such-package", "pip install no-such-package", (), "", "")},
    )
    refused("x", "the package no-such-package is not installed: pip install no-such-package")


def test_parts_are_joined_and_checked_and_never_imported(tmp_path, monkeypatch):
    parts = [b"one, ", b"two"]
    for n, part in enumerate(parts, 1):
        package = tmp_path / f"gguf_part{n}"
        package.mkdir()
        (package / "data.bin").write_bytes(part)
        (package / "__init__.py").write_text("raise SystemExit('this must never run')")
        info = tmp_path / f"gguf_part{n}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: gguf-part{n}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    files = tuple((f"gguf-part{n}", f"gguf_part{n}/data.bin") for n in (1, 2))
    whole = PackagedModel("gguf-part1", "pip install x", files, sha256(b"one, two").hexdigest(), "Q8_0")
    assert whole.assemble(tmp_path / "whole").read_bytes() == b"one, two"
    assert whole.revision == "gguf-part1 1.0"
    with pytest.raises(WidthPruneError, match="have SHA-256 .*, not 0000: install them again"):
        replace(whole, sha256="0000").assemble(tmp_path / "whole")
    (tmp_path / "gguf_part2" / "data.bin").unlink()
    with pytest.raises(WidthPruneError, match="the package gguf-part2 lacks gguf_part2/data.bin"):
        whole.assemble(tmp_path / "whole")


def test_a_file_of_another_kind(saved):
    refused(saved / "config.json", "is a file: name the directory that holds it")


def test_a_gated_repository(monkeypatch):
    def gated(*args, **kwargs):
        response = type("Response", (), {"headers": {}, "request": None, "status_code": 403})()
        raise GatedRepoError("403 Client Error.\nCannot access gated repo", response=response)

    monkeypatch.setattr(models, "snapshot_download", gated)
    refused("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B is gated: accept its licence .*hf auth login")


@pytest.mark.parametrize("name", ["nobody/nothing", "no such name", "a/b/c", "https://example.org/model"])
def test_a_name_that_is_nowhere(name, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(name, r"no packaged model \(smollm2-135m-instruct, gemma3-270m, .*\), no local directory")


def test_a_model_without_mlp(tmp_path):
    MambaForCausalLM(MambaConfig(hidden_size=8, num_hidden_layers=1, vocab_size=20)).save_pretrained(tmp_path)
    refused(tmp_path, "MambaForCausalLM has no MLP of a known layout")


def test_remote_code(saved):
    config = json.loads((saved / "config.json").read_text())
    config |= {
        "model_type": "mystery",
        "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    }
    (saved / "config.json").write_text(json.dumps(config))
    (saved / "code.py").write_text("raise SystemExit('this must never run')")
    refused(saved, "wants to run code from its repository")


CODE = [{"attn_implementation": "evil/kernel"}, {"_attn_implementation": {"": "evil/kernel@main"}}]
CODE += [{"text_config": {"experts_implementation": "evil/kernel:run"}}]
CODE += [{"attn_implementation": "flash_attention_2"}, {"_attn_implementation_internal": "evil/kernel"}]


@pytest.mark.parametrize("field", CODE)
def test_attention_that_would_be_fetched_and_run(field, saved, tmp_path):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | field))
    refused(saved, "wants to run code from its repository, which is refused")
    with pytest.raises(WidthPruneError, match="wants to run code"):
        prune_checkpoint(saved, tmp_path / "pruned", pruning_pct=20)


@pytest.mark.parametrize(
    "field",
    [
        {"num_labels": 10**30},
        {"num_hidden_layers": 2**63},
        {"n_layer": 2000},
        {"text_config": {"num_local_experts": 10**6}},
        {"a": [{"decoder_layers": 10**5}]},
    ],
)
@pytest.mark.parametrize("reads", [load_model, check_ready, models.model_shape, models.model_revision])
def test_counts_that_would_be_built_one_by_one(field, reads, saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | field))
    with pytest.raises(
        WidthPruneError, match="config.json says '.*' 1?[0-9]*, more than 1[0,]*: copy it again"
    ):
        reads(str(saved))


@pytest.mark.parametrize("name", ["pipeline", "logging", "AutoModel", "LlamaConfig"])
def test_a_class_that_is_no_model_is_not_called(name, saved, llama):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"architectures": [name]}))
    assert models.model_shape(str(saved)) == (88, 32)


def test_a_damaged_gguf_file(tmp_path, monkeypatch):
    monkeypatch.setenv("WIDTHPRUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bad.gguf").write_bytes(b"no such thing")
    refused(tmp_path / "bad.gguf", "bad.gguf cannot be converted: ")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        *(
            ({"left_out": [name]}, "cannot be converted: the weights lack model[.].*, which its header asks for")
            for name in ("token_embd", "blk.0.attn_k", "blk.0.ffn_down", "blk.0.ffn_norm", "output_norm")
        ),
        ({"layers": 2}, "the weights lack model.layers.1"),
        ({"layers": 2**31 - 1}, "says that it has 2147483647 layers, and holds 12 tensors"),
    ],
)  # fmt: skip
def test_a_gguf_file_that_lacks_weights_is_not_filled_up_by_lot(damage, said, tmp_path, monkeypatch):
    monkeypatch.setenv("WIDTHPRUNE_CACHE", str(tmp_path / "cache"))
    refused(write_gguf(tmp_path / "tiny.gguf", **damage), said)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("length", [0, 4, 24, 1000, 9000, -1])
def test_a_gguf_file_cut_short(length, gguf_file, tmp_path, monkeypatch):
    monkeypatch.setenv("WIDTHPRUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cut.gguf").write_bytes(gguf_file.read_bytes()[:length])
    refused(tmp_path / "cut.gguf", "cut.gguf cannot be converted: ")
    assert not list((tmp_path / "cache").iterdir())


def test_a_tokenizer_that_breaks(language_model, tmp_path):
    model = shutil.copytree(language_model, tmp_path / "model")
    content = json.loads((model / "tokenizer.json").read_text())
    # Tried in every way in which a text can be parted, until the library gives up: it panics, which is no Exception.
    content["normalizer"] = {"type": "Replace", "pattern": {"Regex": "([a-z ,.]+)+Q"}, "content": ""}
    (model / "tokenizer.json").write_text(json.dumps(content))
    refused(model, "the tokenizer of .* cannot be read .*retry.*: copy its files again")


def test_an_adapter(saved):
    (saved / "adapter_config.json").write_text("{}")
    refused(saved, "holds an adapter, not a model: merge it")


def test_pickle_weights(saved):
    torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    refused(saved, "holds pickle weights.*convert it with")


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("acme/tiny", "'acme/tiny'"),
        ("acme/tiny@v1", "'acme/tiny', revision='v1'"),
        ("HERE", "'HERE'"),
    ],
)
def test_how_pickle_weights_are_converted(name, given, tmp_path):
    (tmp_path / "a@b").mkdir()
    here = str(tmp_path / "a@b")
    name, given = name.replace("HERE", here), given.replace("HERE", here)
    assert f"from_pretrained({given}, use_safetensors=False)" in pickle_remedy(name)


def test_weights_cut_in_half(saved):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(saved, "damaged safetensors file")


def test_a_quantized_checkpoint(saved):
    config = json.loads((saved / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (saved / "config.json").write_text(json.dumps(config))
    refused(saved, "is quantized: load it without quantization")


def test_a_directory_without_a_config(saved):
    (saved / "config.json").unlink()
    refused(saved, "has no config.json: name a directory")


def test_a_config_cut_in_half(saved):
    path = saved / "config.json"
    path.write_text(path.read_text()[:50])
    refused(saved, "damaged|config.json")


def test_every_test_family_loads(tmp_path):
    for family in CONFIGS:
        model = tiny_model(family)
        model.save_pretrained(tmp_path / family)
        assert torch.equal(logits(load_model(str(tmp_path / family))[0]), logits(model))
        shutil.rmtree(tmp_path / family)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (MemoryError("no room"), "free memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "another device"),
        (ImportError("No module named 'sentencepiece'"), "install the package"),
        (PermissionError(13, "Permission denied"), "let this user read it"),
        (KeyError("rope_type"), "copy the model's config.json and weights again"),
    ],
)
def test_what_the_machine_lacks_is_no_fault_of_the_model(error, advice, tmp_path):
    (tmp_path / "model.safetensors").touch()
    assert advice in remedy("it", error, tmp_path)


def test_where_converted_models_are_kept(gguf_file, tmp_path, monkeypatch):
    """A name as long as the disk takes, a home's folder within quotes, and one that cannot be made."""
    named = shutil.copy(gguf_file, tmp_path / f"{'é' * 125}.gguf")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WIDTHPRUNE_CACHE", "~/models")
    assert load_model(str(named))[1] and len(list((tmp_path / "home" / "models").iterdir())) == 1
    assert not (tmp_path / "~").exists()
    monkeypatch.setenv("WIDTHPRUNE_CACHE", "/dev/null/models")
    refused(named, r"/dev/null/models cannot hold .* \(Not a directory\): set WIDTHPRUNE_CACHE")


def test_a_disk_without_room_for_converted_models_is_named(gguf_file, tmp_path, monkeypatch, full_disk):
    monkeypatch.setenv("WIDTHPRUNE_CACHE", str(tmp_path / "cache"))
    refused(gguf_file, rf"{tmp_path}/cache cannot hold .* \({full_disk}\): set WIDTHPRUNE_CACHE")
    assert list((tmp_path / "cache").iterdir()) == []
