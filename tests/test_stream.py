"""Streaming: the same checkpoint as the in-memory path, in pieces, and never half of one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, SMALL, logits, tiny_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration, LlamaConfig

from widthprune import CRITERIA, WidthPruneError, prune_model
from widthprune.architectures import meta_model
from widthprune.checkpoints import loaded, shards, stream
from widthprune.checkpoints.cards import model_card
from widthprune.checkpoints.plans import NO_TOKENIZER
from widthprune.checkpoints.stream import INDEX, prune_checkpoint
from widthprune.models import loading as models


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
    for name in ("modeling_own.py", "model.gguf", "README.md", ".hidden", "LICENSE"):
        (source / name).write_text("a stranger's")
    plan = prune_checkpoint(source, tmp_path / "out", expansion_ratio=2.0, progress=False)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json", "model.safetensors",
        "README.md", "LICENSE",
    }  # fmt: skip
    assert plan.notes == ()
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{plan.parameters_after:,}" in card and "--criterion PPM --expansion-ratio 2" in card
    assert str(tmp_path) not in card
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert sum(p.numel() for p in model.parameters()) == plan.parameters_after


def test_a_hub_id_is_fetched_and_named_in_the_card(tmp_path, monkeypatch):
    tiny_model().save_pretrained(tmp_path / "snapshot")
    fetched = []

    def download(name, **patterns):
        fetched.append((name, "model.safetensors" in patterns["allow_patterns"]))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(models, "snapshot_download", download)
    prune_checkpoint("somebody/llama", tmp_path / "out", pruning_pct=50, progress=False)
    # What names the weights first, and then the weights.
    assert fetched == [("somebody/llama", False), ("somebody/llama", True)]
    assert "base_model: somebody/llama" in (tmp_path / "out" / "README.md").read_text()


def test_the_card_names_a_repository_that_the_hub_can_link(sound, tmp_path):
    plan = prune_checkpoint(sound, tmp_path / "out", pruning_pct=40, dry_run=True)
    assert model_card(plan, "acme/tiny@v1").splitlines()[1] == "base_model: acme/tiny"
    assert "widthprune prune acme/tiny@v1 --criterion" in model_card(plan, "acme/tiny@v1")


def test_a_hub_that_cannot_be_reached(tmp_path, monkeypatch):
    def offline(name, **patterns):
        raise OSError("no route")

    monkeypatch.setattr(models, "snapshot_download", offline)
    with pytest.raises(
        WidthPruneError, match="not found on the hub, or private, or the hub cannot be reached"
    ):
        prune_checkpoint("somebody/llama", tmp_path / "out", pruning_pct=50)
    assert list(tmp_path.iterdir()) == []


def test_weights_in_another_layout_beside_the_model_are_left_out(tmp_path):
    tiny_model().save_pretrained(tmp_path / "source")
    save_file({"layers.0.w1": torch.ones(2, 2)}, tmp_path / "source" / "consolidated.safetensors")
    prune_checkpoint(tmp_path / "source", tmp_path / "out", pruning_pct=50, progress=False)
    assert [path.name for path in (tmp_path / "out").glob("*.safetensors")] == ["model.safetensors"]


def in_folders(source):
    """Shards of one name in two folders, and a layer in each."""
    content = json.loads((source / INDEX).read_text())
    files = sorted(set(content["weight_map"].values()))
    names = {file: f"{'ab'[i % 2]}/{i // 2}.safetensors" for i, file in enumerate(files)}
    for old, new in names.items():
        (source / new).parent.mkdir(exist_ok=True)
        (source / old).rename(source / new)
    content["weight_map"] = {name: names[file] for name, file in content["weight_map"].items()}
    (source / INDEX).write_text(json.dumps(content))


def test_shards_in_folders_stay_there(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "source")
    in_folders(tmp_path / "source")
    for source, out in ((sound, "plain"), (tmp_path / "source", "folders")):
        prune_checkpoint(source, tmp_path / out, pruning_pct=40, progress=False)
    named = set(json.loads((tmp_path / "folders" / INDEX).read_text())["weight_map"].values())
    assert named == {
        path.relative_to(tmp_path / "folders").as_posix() for path in (tmp_path / "folders").glob("*/*")
    }
    assert named == {
        path.relative_to(tmp_path / "source").as_posix() for path in (tmp_path / "source").glob("*/*")
    }
    loaded = [AutoModelForCausalLM.from_pretrained(tmp_path / out) for out in ("plain", "folders")]
    assert torch.equal(*map(logits, loaded))


def test_a_hubs_cache_holds_links(language_model, tmp_path):
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "1234", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    shutil.copytree(language_model, blobs)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    for source, out in ((language_model, "plain"), (snapshot, "hub")):
        prune_checkpoint(source, tmp_path / out, pruning_pct=40, progress=False)
    plain, hub = ({f.name: f.read_bytes() for f in (tmp_path / out).iterdir()} for out in ("plain", "hub"))
    assert {**plain, "README.md": b""} == {**hub, "README.md": b""}
    assert not any(file.is_symlink() for file in (tmp_path / "hub").iterdir())


def test_a_model_without_a_tokenizer_is_pruned_and_the_plan_says_so(sound, tmp_path):
    plan = prune_checkpoint(sound, tmp_path / "out", pruning_pct=40, dry_run=True)
    assert str(plan).splitlines()[-1] == f"note: {NO_TOKENIZER}"


def test_a_dry_run_plans_and_writes_nothing(tmp_path):
    tiny_model().save_pretrained(tmp_path / "source")
    plan = prune_checkpoint(tmp_path / "source", tmp_path / "out", pruning_pct=40, dry_run=True)
    assert plan.sizes == {"intermediate_size": (88, 53)} and plan.size_after == 53
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

    def read_tensor(stored):
        reads.append(stored.nbytes)
        return shards.read_tensor(stored)

    monkeypatch.setattr("widthprune.checkpoints.stream.read_tensor", read_tensor)
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


def adapter(source):
    (source / "adapter_config.json").write_text("{}")


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


def embeddings_are_gone(source):
    for file in source.glob("*-of-*"):
        save_file({n: t for n, t in load_file(file).items() if "embed" not in n}, file)
    _edit(_index(source), lambda index: index["weight_map"].pop("model.embed_tokens.weight"))


def gate_is_flat(source):
    for file in source.glob("*-of-*"):
        save_file(
            {n: t[:, 0].clone() if "layers.0.mlp.gate" in n else t for n, t in load_file(file).items()}, file
        )


def an_index_that_names(*names):
    def damage(source):
        _edit(
            _index(source),
            lambda index: index["weight_map"].update({f"{i}.weight": n for i, n in enumerate(names)}),
        )

    damage.__name__ = f"index_names {names}"
    return damage


def twice(source):
    first, second = sorted(source.glob("*-of-*"))[:2]
    save_file(load_file(first) | load_file(second), second)


def a_config_that_says(field, value):
    def damage(source):
        _edit(source / "config.json", lambda config: config.update({field: value}))

    damage.__name__ = f"{field} {value!r:.20}"
    return damage


def config_is(make):
    def damage(source):
        (source / "config.json").unlink()
        make(source / "config.json")

    damage.__name__ = f"config_is {make.__name__}"
    return damage


def nested(path):
    path.write_text("[" * 100_000)


def a_tokenizer_from_elsewhere(source):
    (source / "tokenizer.json").symlink_to("/etc/hostname")


def a_shard_from_elsewhere(source):
    file = sorted(source.glob("*-of-*"))[0]
    file.unlink()
    file.symlink_to("/dev/zero")


BROKEN = {
    **{
        an_index_that_names(name): "which lies outside it"
        for name in ("../x.safetensors", "/x.safetensors", "a/../../x.safetensors", "a\0.safetensors")
    },
    an_index_that_names("x" * 300 + ".safetensors"): "which cannot be found",
    an_index_that_names("config.json"): "index.json is damaged",
    an_index_that_names(None): "index.json is damaged",
    an_index_that_names([1]): "index.json is damaged",
    twice: "copy the checkpoint again",
    a_tokenizer_from_elsewhere: "'tokenizer.json', which lies outside it",
    a_shard_from_elsewhere: "which lies outside it",
    **{
        a_config_that_says("quantization_config", value): r"is quantized \(an unknown method\)"
        for value in ("gptq", 1, ["gptq"], {"quant_method": ["a"]}, {"quant_method": "a\nb"})
    },
    **{a_config_that_says("model_type", v): "says model_type .*: copy it again" for v in ([], {}, 1, "a\nb")},
    **{
        a_config_that_says("intermediate_size", v): "says intermediate_size .*: copy it again"
        for v in ([], "a\nb", -1, 1.5, [None], True, 10**30)
    },
    a_config_that_says("num_hidden_layers", 900): "more than there are tensors",
    a_config_that_says("num_hidden_layers", 10**9): "more than 1,000: copy it again",
    a_config_that_says("num_hidden_layers", "3"): "says num_hidden_layers '3': copy it again",
    a_config_that_says("activation_sparsity_pattern", 1.5): "says activation_sparsity_pattern 1.5",
    a_config_that_says("hidden_size", "wide"): "source: ",
    a_config_that_says("architectures", 5): "source: ",
    a_config_that_says("rope_scaling", [1]): "source: ",
    a_config_that_says("text_config", {"a": []}): "source: ",
    a_config_that_says("model_type", "banana"): "transformers cannot build a model from the pruned config",
    config_is(Path.mkdir): "config.json cannot be read",
    config_is(nested): "config.json is damaged",
    config_is(os.mkfifo): "config.json is neither file nor directory",
    missing_shard: "is missing, though model.safetensors.index.json names it",
    truncated_shard: "is a damaged safetensors file",
    empty_shard: "is a damaged safetensors file",
    index_names_absent: "names ghost.weight, which no file holds",
    config_disagrees: "config.json says intermediate_size 96, but model.layers.0.mlp has 88 neurons",
    adapter: "holds an adapter, not a model: merge it",
    no_config: "has no config.json",
    int8_weights: "holds I8 weights: prune the unquantized model",
    fp8_weights: "holds F8_E4M3 weights: prune the unquantized model",
    index_is_cut: "index.json is damaged: copy it again",
    other_layer_count: "builds model.layers.3.mlp with 53 neurons, and no tensors of the checkpoint fit it",
    other_hidden_size: "builds model.layers.0.mlp with 53 neurons, and no tensors of the checkpoint fit it",
    awq: r"is quantized \(awq\)",
    gptq: r"is quantized \(gptq\)",
    embeddings_are_gone: "asks for model.embed_tokens.weight, which the weights do not hold",
    a_config_that_says("vocab_size", 10): r"of shape \[10, 32\], and the weights hold \[97, 32\]",
    gate_is_flat: "must share one intermediate size, got shapes",
    up_is_gone: "has model.layers.1.mlp.down_proj without model.layers.1.mlp.up_proj",
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "source"
    tiny_model().save_pretrained(folder, max_shard_size="12KB")
    return folder


@pytest.mark.parametrize("dry", [False, True], ids=["run", "dry"])
@pytest.mark.parametrize("damage", BROKEN, ids=lambda damage: damage.__name__)
def test_a_broken_source(damage, dry, sound, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(sound, source)
    damage(source)
    before = {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}
    with pytest.raises(WidthPruneError, match=BROKEN[damage]) as caught:
        prune_checkpoint(source, tmp_path / "out", pruning_pct=40, progress=False, dry_run=dry)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert before == {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}


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


WRONG = {
    "seed": (-1, "x", 1.5, None),
    "pruning_pct": ("40", ["40"], [40, [20]], {40: 1}, [], [101]),
    "multiple_of": (0, "8", 2.5),
    "criterion": (None, 3),
    "src": (None, 3, b"x"),
    "dst": (None, 3),
}


@pytest.mark.parametrize("name", WRONG)
def test_arguments_of_another_kind(name, sound, tmp_path):
    for value in WRONG[name]:
        given = {"src": sound, "dst": tmp_path / "out", "pruning_pct": 40} | {name: value}
        with pytest.raises(WidthPruneError, match=f"^{name} must ") as caught:
            prune_checkpoint(given.pop("src"), given.pop("dst"), **given)
        assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["model-00003-of-00017.safetensors", "generation_config.json", ""])
def test_a_source_that_vanishes_is_what_is_named(file, sound, tmp_path, monkeypatch):
    source = shutil.copytree(sound, tmp_path / "source")
    copy = shutil.copyfile

    def vanish(checkpoint, *rest):
        (shutil.rmtree if not file else os.remove)(source / file)
        return work(checkpoint, *rest)

    def vanish_late(source, target):  # after it was seen to be there
        os.remove(source)
        return copy(source, target)

    if file.endswith(".json"):
        monkeypatch.setattr(shutil, "copyfile", vanish_late)
    else:
        work = stream._work
        monkeypatch.setattr(stream, "_work", vanish)
    with pytest.raises(WidthPruneError, match=f"^{source}.*{file} cannot be read") as caught:
        prune_checkpoint(source, tmp_path / "out", pruning_pct=40, progress=False)
    assert "destination" not in str(caught.value) and not [p for p in tmp_path.iterdir() if p != source]


def zeroed(file):
    file.write_bytes(bytes(file.stat().st_size))


def replaced(file):
    other = shutil.copy2(file, file.with_name("other"))  # of the same bytes, size and time
    os.replace(other, file)


WAYS = {
    stream: prune_checkpoint,
    loaded: lambda *arguments, **options: loaded.prune_loaded(*arguments, "ACT", **options),
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.rpartition(".")[2])
@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("model.safetensors", zeroed),
        ("model.safetensors", replaced),
        ("config.json", replaced),
        ("tokenizer.json", zeroed),
        ("tokenizer_config.json", os.remove),
        (INDEX, Path.touch),
        ("chat_template.jinja", Path.touch),
    ],
)
def test_a_source_that_changes_meanwhile_gives_no_mixture(
    file, change, way, language_model, tmp_path, monkeypatch
):
    source, copied = shutil.copytree(language_model, tmp_path / "source"), way.copy_beside

    def copy_beside(*arguments):
        copied(*arguments)
        change(source / file)

    monkeypatch.setattr(way, "copy_beside", copy_beside)
    with pytest.raises(WidthPruneError, match=f"^the source changed while it was read: .*{file} is not"):
        WAYS[way](source, tmp_path / "out", pruning_pct=40, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    tiny_model().save_pretrained(tmp_path / "source")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 9, 1))
    for dry in (True, False):
        with pytest.raises(WidthPruneError, match="MB free and the result needs .* make room"):
            prune_checkpoint(tmp_path / "source", tmp_path / "out", pruning_pct=40, dry_run=dry)


def test_a_disk_that_fills_up_meanwhile(tmp_path, monkeypatch):
    tiny_model().save_pretrained(tmp_path / "source")

    def full(stored, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("widthprune.checkpoints.stream.write_from", full)
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
