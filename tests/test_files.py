"""What a model directory holds: names that are copied, and files that are its own."""

import os

import pytest
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING

from widthprune import WidthPruneError
from widthprune.models.files import TOKENIZER, copy_beside, names_beside, own_file, read_object

COPIED = [
    "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "merges.txt",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "additional_chat_templates/tool_use.jinja",
    "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json", "spiece.model", "LICENSE",
    "license.md", "NOTICE.txt", "USE_POLICY.md", "qwen.tiktoken", "tekken.json",
]  # fmt: skip
LEFT = [
    "config.json", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "adapter_config.json", "adapter_model.safetensors", "model.gguf", "model.onnx", "model.onnx_data", "tf_model.h5",
    "flax_model.msgpack", "model.mlmodel", "model.pkl", "optimizer.npz", "consolidated.00.pth", "rust_model.ot",
    "modeling_own.py", "tokenization_own.py", "LICENSE.py", "run.sh", "README.md", ".gitattributes", ".env",
    "training_args.bin", "trainer_state.json", "onnx/tokenizer.json", "additional_chat_templates/own.py", "params.json",
    "model.safetensors.json.bin", "tokenizer.py", "tokenizer.pkl", "vocab.pkl", "model.model",
]  # fmt: skip


def write(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_what_is_copied_is_a_list(tmp_path):
    write(tmp_path / "source", [*COPIED, *LEFT])
    (tmp_path / "out").mkdir()
    copy_beside(tmp_path / "source", tmp_path / "out")
    copied = {
        file.relative_to(tmp_path / "out").as_posix()
        for file in (tmp_path / "out").rglob("*")
        if file.is_file()
    }
    assert copied == set(COPIED)


def test_every_file_that_a_tokenizer_of_transformers_reads(tmp_path):
    classes = {
        kind
        for pair in TOKENIZER_MAPPING.values()
        for kind in (pair if isinstance(pair, tuple) else [pair])
        # Else a stand-in for a class whose library is not installed.
        if kind and kind.__module__.startswith("transformers.models.")
    }
    names = {name for kind in classes for name in getattr(kind, "vocab_files_names", {}).values()}
    assert len(names) > 10
    write(tmp_path, names)
    assert set(names_beside(tmp_path, TOKENIZER)) == names


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "chat_template.jinja", "LICENSE"])
@pytest.mark.parametrize(
    ("folder", "advice"),
    [
        ("model", "copy it again"),
        (
            "models--acme--ti--ny/snapshots/1234",
            r"download it again \(hf download acme/ti--ny --revision 1234\)",
        ),
    ],
)
def test_a_file_beside_the_weights_that_is_none(folder, advice, name, tmp_path):
    source = tmp_path / folder
    source.mkdir(parents=True)
    (source / name).symlink_to("gone" if folder == "model" else "../../blobs/gone")
    with pytest.raises(WidthPruneError, match=f"{name} is a link to a file that is gone: {advice}"):
        copy_beside(source, tmp_path / "out")
    (source / name).unlink()
    (source / name).mkdir()
    with pytest.raises(WidthPruneError, match=f"{name} is a folder: {advice}"):
        copy_beside(source, tmp_path / "out")


@pytest.mark.parametrize("target", ["../secret", "/etc/hostname", "tokenizer.json", "../models/x"])
def test_links_that_lead_out_are_refused(target, tmp_path):
    source = tmp_path / "model"
    source.mkdir()
    (tmp_path / "models").mkdir()
    write(tmp_path, ["secret", "models/x"])
    (source / "tokenizer.json").symlink_to(target)
    with pytest.raises(WidthPruneError, match="'tokenizer.json', which") as caught:
        copy_beside(source, tmp_path)
    assert "\n" not in str(caught.value)


def test_links_that_stay_inside_are_followed(tmp_path):
    write(tmp_path / "model", ["files/tokenizer"])
    (tmp_path / "model" / "tokenizer.json").symlink_to("files/tokenizer")
    (tmp_path / "link").symlink_to("model")
    assert names_beside(tmp_path / "link") == ["tokenizer.json"]


@pytest.mark.parametrize("name", ["..", "../x", "/etc/passwd", "a/../../x", "a\0b", "x" * 5000, "a/../b"])
def test_names_that_lead_out_are_refused(name, tmp_path):
    with pytest.raises(WidthPruneError, match="which lies outside it|which cannot be found"):
        own_file(tmp_path, name)


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 100_000, "1" * 5000, "\ufeff{}", b"\xff\xfe{"])
def test_an_object_that_is_none(content, tmp_path):
    (tmp_path / "x.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(WidthPruneError, match="x.json is damaged: copy it again"):
        read_object(tmp_path, "x.json")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(WidthPruneError, match="neither file nor directory"):
        read_object(tmp_path, "x.json")
