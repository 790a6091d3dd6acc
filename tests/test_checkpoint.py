"""Streaming: the same checkpoint as the in-memory path, in pieces, and never half of one."""

import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time

import pytest
import torch
from conftest import CONFIGS, SMALL, logits, tiny_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration, LlamaConfig

from widthprune import CRITERIA, WidthPruneError, models, prune_model, shards
from widthprune.architectures import meta_model
from widthprune.checkpoint import INDEX, prune_checkpoint


def tensors_of(directory):
    found = {}
    for file in directory.glob("*.safetensors"):
        found |= load_file(file)
    return found


def prune_both_ways(model, tmp_path, shard="5GB", **options):
    """(streamed, in-memory) directories of one pruned model."""
    model.save_pretrained(tmp_path / "source", max_shard_size=shard)
    prune_checkpoint(tmp_path / "source", tmp_path / "streamed", progress=False, **options)
    prune_model(model, **options).save_pretrained(tmp_path / "memory")
    return tmp_path / "streamed", tmp_path / "memory"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", CONFIGS)
def test_same_tensors_and_logits_as_in_memory(family, dtype, tmp_path):
    model = tiny_model(family, dtype)
    streamed, memory = prune_both_ways(model, tmp_path, pruning_pct=40)
    found, expected = tensors_of(streamed), tensors_of(memory)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    loaded, other = (AutoModelForCausalLM.from_pretrained(path, dtype=dtype) for path in (streamed, memory))
    assert torch.equal(logits(loaded), logits(other))
    assert loaded.config.intermediate_size == 53


@pytest.mark.parametrize("criterion", [name for name in CRITERIA if name != "PPM"])
def test_every_criterion(criterion, tmp_path):
    streamed, memory = prune_both_ways(
        tiny_model(num_hidden_layers=11), tmp_path, criterion=criterion, expansion_ratio=1.5, seed=3
    )
    expected = tensors_of(memory)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors_of(streamed).items())


def test_a_layer_may_lie_in_several_shards(tmp_path):
    model = tiny_model()
    streamed, memory = prune_both_ways(model, tmp_path, shard="12KB", pruning_pct=20)
    index = json.loads((streamed / INDEX).read_text())
    assert len(set(index["weight_map"].values())) > 5
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors_of(memory).values())
    loaded = AutoModelForCausalLM.from_pretrained(streamed)
    torch.testing.assert_close(logits(loaded), logits(prune_model(model, pruning_pct=20)))


def test_a_multimodal_model_loses_neurons_of_its_language_model_only(tmp_path):
    vision = dict(
        hidden_size=16, intermediate_size=88, num_hidden_layers=1, num_attention_heads=2, image_size=28,
        patch_size=14,
    )  # fmt: skip
    config = Gemma3Config(
        text_config={**SMALL, "sliding_window": 8}, vision_config=vision, mm_tokens_per_image=4
    )
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config).eval()
    streamed, memory = prune_both_ways(model, tmp_path, pruning_pct=50)
    found, expected = tensors_of(streamed), tensors_of(memory)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    written = json.loads((streamed / "config.json").read_text())
    assert written["text_config"]["intermediate_size"] == 44
    assert written["vision_config"]["intermediate_size"] == 88 and "intermediate_size" not in written
    loaded = Gemma3ForConditionalGeneration.from_pretrained(streamed)
    torch.testing.assert_close(logits(loaded), logits(prune_model(model, pruning_pct=50)))


def test_the_card_and_the_other_files(language_model, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(language_model, source)
    (source / "modeling_own.py").write_text("print('code')")
    plan = prune_checkpoint(source, tmp_path / "out", expansion_ratio=2.0, progress=False)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"tokenizer.json", "generation_config.json", "config.json", "README.md"} <= names
    assert "modeling_own.py" not in names
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{plan.parameters_after:,}" in card and "--criterion PPM --expansion-ratio 2" in card
    assert str(tmp_path) not in card
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert sum(p.numel() for p in model.parameters()) == plan.parameters_after


def test_a_hub_id_is_fetched_and_named_in_the_card(tmp_path, monkeypatch):
    tiny_model().save_pretrained(tmp_path / "snapshot")
    fetched = []

    def download(name, **patterns):
        fetched.append(name)
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(models, "snapshot_download", download)
    prune_checkpoint("somebody/llama", tmp_path / "out", pruning_pct=50, progress=False)
    assert fetched == ["somebody/llama"]
    assert "base_model: somebody/llama" in (tmp_path / "out" / "README.md").read_text()


def test_a_hub_that_cannot_be_reached(tmp_path, monkeypatch):
    def offline(name, **patterns):
        raise OSError("no route")

    monkeypatch.setattr(models, "snapshot_download", offline)
    with pytest.raises(WidthPruneError, match="not found on the hub or the hub cannot be reached"):
        prune_checkpoint("somebody/llama", tmp_path / "out", pruning_pct=50)
    assert list(tmp_path.iterdir()) == []


def test_weights_in_another_layout_beside_the_model_are_left_out(tmp_path):
    tiny_model().save_pretrained(tmp_path / "source")
    save_file({"layers.0.w1": torch.ones(2, 2)}, tmp_path / "source" / "consolidated.safetensors")
    prune_checkpoint(tmp_path / "source", tmp_path / "out", pruning_pct=50, progress=False)
    assert [path.name for path in (tmp_path / "out").glob("*.safetensors")] == ["model.safetensors"]


def test_a_dry_run_plans_and_writes_nothing(tmp_path):
    tiny_model().save_pretrained(tmp_path / "source")
    plan = prune_checkpoint(tmp_path / "source", tmp_path / "out", pruning_pct=40, dry_run=True)
    assert (plan.size_before, plan.size_after) == (88, 53)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_the_plan_of_llama_3_2_3b_is_that_of_the_paper(tmp_path):
    """Headers are all a plan reads: a sparse file stands in for the 6.4 GB of weights."""
    config = LlamaConfig(
        hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24,
        num_key_value_heads=8, head_dim=128, vocab_size=128256, tie_word_embeddings=True, dtype="bfloat16",
    )  # fmt: skip
    config.save_pretrained(tmp_path / "source")
    header, offset = {}, 0
    for name, parameter in meta_model(config).named_parameters():
        end = offset + 2 * parameter.numel()
        header[name] = {"dtype": "BF16", "shape": list(parameter.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with (tmp_path / "source" / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)
    plan = prune_checkpoint(tmp_path / "source", tmp_path / "out", pruning_pct=40, dry_run=True)
    assert (plan.parameters_before, plan.parameters_after) == (3212749824, 2367384576)


def test_killed_at_20_random_moments_the_destination_is_absent_or_complete(tmp_path):
    model = tiny_model(hidden_size=128, intermediate_size=512, num_hidden_layers=30, vocab_size=20000)
    model.save_pretrained(tmp_path / "source", max_shard_size="2MB")
    source, out = tmp_path / "source", tmp_path / "out"
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in source.iterdir()}
    # Forked from a process that has imported everything, so that the moment falls into the work itself.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["widthprune.models", "transformers.models.llama.modeling_llama"])
    options = dict(pruning_pct=40, progress=False)
    for _ in range(2):  # the first starts the server, the second shows how long a run takes
        shutil.rmtree(out, ignore_errors=True)
        start = time.perf_counter()
        child = context.Process(target=prune_checkpoint, args=(source, out), kwargs=options)
        child.start()
        child.join()
        duration = time.perf_counter() - start
    whole = {name: tensor.shape for name, tensor in tensors_of(out).items()}
    shutil.rmtree(out)

    moments = random.Random(0)
    absent = 0
    for _ in range(20):
        child = context.Process(target=prune_checkpoint, args=(source, out), kwargs=options)
        child.start()
        time.sleep(moments.uniform(0, 1.2 * duration))
        child.kill()  # SIGKILL
        child.join()
        if out.exists():
            assert {name: tensor.shape for name, tensor in tensors_of(out).items()} == whole
            shutil.rmtree(out)
        else:
            absent += 1
    print(f"{absent} of 20 runs were killed before they ended")
    assert absent, "every run ended before it was killed: the test saw nothing"
    prune_checkpoint(source, out, **options)
    AutoModelForCausalLM.from_pretrained(out)
    assert {path.name for path in tmp_path.iterdir()} == {"source", "out"}
    assert before == {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in source.iterdir()}


def test_several_ratios_in_one_pass(tmp_path):
    tiny_model().save_pretrained(tmp_path / "source")
    plans = prune_checkpoint(
        tmp_path / "source", tmp_path / "out", expansion_ratio=[2.4, 1.5], progress=False
    )
    assert [plan.size_after for plan in plans] == [77, 48]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "expansion-ratio-2.4",
        "expansion-ratio-1.5",
    }
    for ratio in (2.4, 1.5):
        own = tmp_path / "out" / f"expansion-ratio-{ratio}"
        prune_checkpoint(tmp_path / "source", tmp_path / "one", expansion_ratio=ratio, progress=False)
        for file in (tmp_path / "one").iterdir():
            assert file.read_bytes() == (own / file.name).read_bytes(), file.name
        shutil.rmtree(tmp_path / "one")


def test_each_tensor_is_read_once_for_all_ratios(tmp_path, monkeypatch):
    model = tiny_model()
    model.save_pretrained(tmp_path / "source")
    reads = []

    def read_into(stored, buffer):
        reads.append(stored.nbytes)
        shards.read_into(stored, buffer)

    monkeypatch.setattr("widthprune.checkpoint.read_into", read_into)
    prune_checkpoint(tmp_path / "source", tmp_path / "out", pruning_pct=[10, 20, 30], progress=False)
    assert sum(reads) == sum(p.nbytes for n, p in model.named_parameters() if ".mlp." in n)


def test_targets_that_are_the_same(tmp_path):
    tiny_model().save_pretrained(tmp_path / "source")
    for targets in ([], [20, 20.0]):
        with pytest.raises(WidthPruneError, match="pruning_pct must list values that differ"):
            prune_checkpoint(tmp_path / "source", tmp_path / "out", pruning_pct=targets)


def _index(source):
    return source / INDEX


def _edit(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def missing_shard(source):
    next(iter(sorted(source.glob("*-of-*")))).unlink()


def truncated_shard(source):
    file = sorted(source.glob("*-of-*"))[-1]
    os.truncate(file, file.stat().st_size - 10)


def empty_shard(source):
    os.truncate(sorted(source.glob("*-of-*"))[0], 0)


def index_names_absent(source):
    file = sorted(source.glob("*-of-*"))[0].name
    _edit(_index(source), lambda index: index["weight_map"].update({"ghost.weight": file}))


def config_disagrees(source):
    _edit(source / "config.json", lambda config: config.update(intermediate_size=96))


def no_config(source):
    (source / "config.json").unlink()


def int8_weights(source):
    file = sorted(source.glob("*-of-*"))[0]
    for file in source.glob("*-of-*"):
        save_file({n: t.to(torch.int8) if "gate" in n else t for n, t in load_file(file).items()}, file)


def fp8_weights(source):
    for file in source.glob("*-of-*"):
        save_file(
            {n: t.to(torch.float8_e4m3fn) if "gate" in n else t for n, t in load_file(file).items()}, file
        )


def _quantized_by(source, method):
    _edit(source / "config.json", lambda config: config.update(quantization_config={"quant_method": method}))


def gptq(source):
    _quantized_by(source, "gptq")


def awq(source):
    _quantized_by(source, "awq")


def index_is_cut(source):
    _index(source).write_text(_index(source).read_text()[:100])


def other_layer_count(source):
    _edit(source / "config.json", lambda config: config.update(num_hidden_layers=4))


def other_hidden_size(source):
    _edit(source / "config.json", lambda config: config.update(hidden_size=64))


def up_is_gone(source):
    for file in source.glob("*-of-*"):
        save_file({n: t for n, t in load_file(file).items() if "layers.1.mlp.up" not in n}, file)
    _edit(_index(source), lambda index: index["weight_map"].pop("model.layers.1.mlp.up_proj.weight"))


BROKEN = {
    missing_shard: "is missing, though model.safetensors.index.json names it",
    truncated_shard: "is a damaged safetensors file",
    empty_shard: "is a damaged safetensors file",
    index_names_absent: "names ghost.weight, which no file holds",
    config_disagrees: "config.json says intermediate_size 96, but model.layers.0.mlp has 88 neurons",
    no_config: "has no config.json",
    int8_weights: "holds I8 weights: prune the unquantized model",
    fp8_weights: "holds F8_E4M3 weights: prune the unquantized model",
    index_is_cut: "index.json is damaged: copy it again",
    other_layer_count: "builds model.layers.3.mlp with 53 neurons, and no tensors of the checkpoint fit it",
    other_hidden_size: "builds model.layers.0.mlp with 53 neurons, and no tensors of the checkpoint fit it",
    awq: r"is quantized \(awq\)",
    gptq: r"is quantized \(gptq\)",
    up_is_gone: "has model.layers.1.mlp.down_proj without model.layers.1.mlp.up_proj",
}


@pytest.mark.parametrize("damage", BROKEN, ids=lambda damage: damage.__name__)
def test_a_broken_source(damage, tmp_path):
    tiny_model().save_pretrained(tmp_path / "source", max_shard_size="12KB")
    damage(tmp_path / "source")
    before = {path.name: path.read_bytes() for path in (tmp_path / "source").iterdir()}
    with pytest.raises(WidthPruneError, match=BROKEN[damage]) as caught:
        prune_checkpoint(tmp_path / "source", tmp_path / "out", pruning_pct=40, progress=False)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "source").iterdir()}


def test_a_bad_destination(tmp_path):
    source = tmp_path / "source"
    tiny_model().save_pretrained(source)
    (tmp_path / "there").mkdir()
    with pytest.raises(WidthPruneError, match="exists already: name a new directory"):
        prune_checkpoint(source, tmp_path / "there", pruning_pct=40)
    with pytest.raises(WidthPruneError, match="lies inside the source"):
        prune_checkpoint(source, source / "pruned", pruning_pct=40)
    (tmp_path / "file").write_text("")
    with pytest.raises(WidthPruneError, match="cannot be written"):
        prune_checkpoint(source, tmp_path / "file" / "out", pruning_pct=40, progress=False)


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    tiny_model().save_pretrained(tmp_path / "source")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(WidthPruneError, match="GB free and the result needs .* make room"):
        prune_checkpoint(tmp_path / "source", tmp_path / "out", pruning_pct=40)


def test_a_disk_that_fills_up_meanwhile(tmp_path, monkeypatch):
    tiny_model().save_pretrained(tmp_path / "source")

    def full(stored, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("widthprune.checkpoint.write_from", full)
    with pytest.raises(WidthPruneError, match="No space left on device"):
        prune_checkpoint(tmp_path / "source", tmp_path / "out", pruning_pct=40, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


FULL_DISK = """
import os, shutil, sys
from widthprune import WidthPruneError, prune_checkpoint
source, small, room = sys.argv[1:]
if room == "limit":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19))
if room != "known":
    # Room enough when it is checked: the disk fills up afterwards.
    shutil.disk_usage = lambda place: shutil._ntuple_diskusage(10**12, 0, 10**12)
try:
    prune_checkpoint(source, small + "/out", pruning_pct=40, progress=False)
except WidthPruneError as error:
    print(error, os.listdir(small), sep="|")
"""


@pytest.mark.parametrize("room", ["known", "filled up"])
def test_a_small_disk(room, tmp_path):
    """A tmpfs of 1 MB in a mount namespace. Where none may be made, the kernel refuses by a limit instead."""
    source, small = tmp_path / "source", tmp_path / "small"
    tiny_model(vocab_size=20000).save_pretrained(source)
    small.mkdir()
    python = [sys.executable, "-c", FULL_DISK, str(source), str(small)]
    mount = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"'
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        mount,
        str(small),
        *python,
        room,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        done = subprocess.run([*python, "limit"], capture_output=True, text=True, check=True)
        expected = "cannot be written (File too large)"
    else:
        expected = "make room" if room == "known" else "cannot be written (No space left on device)"
    message, left = done.stdout.strip().split("|")
    assert expected in message and left == "[]"
