"""The files of a model directory: what they are called, and that they are its own. No torch.

A directory may hold anything: weights in other formats, code, adapters, links. What goes into a pruned
model is listed here, and nothing else does.
"""

import json
import os
import shutil
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import WidthPruneError, remote_code_remedy

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
IMPLEMENTATIONS = {"eager", "sdpa", "flex_attention", "grouped_mm", "batched_mm"}
# More of them than any model has, by the last word of the field that counts them.
MOST = {"layer": 1_000, "expert": 10_000, "label": 1_000_000}
# Every name that a tokenizer of transformers reads; a test compares.
TOKENIZER = (
    "tokenizer*.json",
    "tokenizer.model",
    "tokenizer.model.v*",
    "special_tokens_map.json",
    "added_tokens.json",
    "*vocab*.json",
    "vocab*.txt",
    "vocab.bpe",
    "merges*.txt",
    "bpe.codes",
    "spiece.model",
    "spm*.model",
    "sentencepiece*.model",
    "tiktoken.model",
    "*.tiktoken",
    "tekken.json",
    "byte_maps.json",
    "word_*.json",
    "prophetnet.tokenizer",
    "dict.txt",
    "emoji.json",
    "normalizer.json",
)
# Copied beside pruned weights, as they are.
BESIDE = (
    "generation_config.json",
    *TOKENIZER,
    "chat_template.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "*processor_config.json",
    "audio_tokenizer_config.json",
    *(
        written + suffix
        for name in ("LICENSE", "LICENCE", "COPYING", "NOTICE", "USE_POLICY")
        for written in (name, name.lower())
        for suffix in ("", ".txt", ".md")
    ),
    "LICENSE-MODEL",
    "LICENSE-CODE",
)


def copy_beside(source: Path, directory: Path) -> None:
    """Copy what lies beside a model's weights and config and is in `BESIDE`."""
    for name in names_beside(source):
        (directory / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(own_file(source, name), directory / name)


def names_beside(source: Path, patterns: tuple[str, ...] = BESIDE) -> list[str]:
    """The regular files of a model directory that have one of the names, relative to it.

    Raises
    ------
    WidthPruneError
        If one is a link that leads out of the directory or to nothing, or is a folder: left out, the model
        would be another.
    """
    names = [name for name in _names(source) if any(fnmatchcase(name, p) for p in patterns)]
    for name in names:
        if not own_file(source, name).is_file():
            raise WidthPruneError(no_file(source, name))
    return names


def no_file(source: Path, name: str, named: str = "") -> str:
    """One line for what should be a file of a model directory: what is there, who ``named`` it, what to do.

    >>> no_file(Path("hub/models--a--b/snapshots/12"), "vocab.txt", ", though the index names it")
    'hub/models--a--b/snapshots/12/vocab.txt is missing, though the index names it: download it again (hf download a/b --revision 12)'
    """
    path, again = source / name, "copy it again"
    what = (
        "a folder" if path.is_dir() else "a link to a file that is gone" if path.is_symlink() else "missing"
    )
    folder = source.absolute().parent
    if folder.name == "snapshots" and folder.parent.name.startswith("models--"):
        repository = folder.parent.name.removeprefix("models--").replace("--", "/", 1)
        again = f"download it again (hf download {repository} --revision {source.name})"
    return f"{path} is {what}{named}: {again}"


def _names(source: Path) -> Iterator[str]:
    folders = sorted({pattern.split("/")[0] for pattern in BESIDE if "/" in pattern})
    yield from sorted(path.name for path in source.iterdir())
    for folder in folders:
        if (source / folder).is_dir():
            yield from sorted(f"{folder}/{path.name}" for path in (source / folder).iterdir())


def own_file(source: Path, name: str) -> Path:
    """The path of a model directory's file, which need not exist.

    Raises
    ------
    WidthPruneError
        If it lies elsewhere: by its name, or by way of a link, unless that is how a hub's cache is made.
    """
    path, root = source / name, source.resolve()
    homes = [root]
    if root.parent.name == "snapshots":  # of a hub's cache: its files are links to ../../blobs/HASH
        homes.append((root.parent.parent / "blobs").resolve())  # which may lie on another disk
    try:
        # The name itself may not lead out, even if what it leads to is inside.
        named = "\0" not in name and not os.path.isabs(name) and ".." not in Path(name).parts
        if not named or not any(path.resolve().is_relative_to(home) for home in homes):
            raise WidthPruneError(
                f"{source} has {name!r:.200}, which lies outside it: put the file itself into the directory"
            )
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise WidthPruneError(f"{path} is neither file nor directory: copy the model again")
    except (OSError, RuntimeError) as error:  # names too long, links in a circle
        raise WidthPruneError(
            f"{source} has {name!r:.200}, which cannot be found: {str(error):.200}"
        ) from None
    return path


def check_config(source: Path) -> None:
    """Refuse a config.json that transformers, which reads it next, would run code for or never be done with.

    Attention or experts may be fetched as code: a name of the hub is asked of the package `kernels`, where it is
    installed, and so is one of flash attention where that is not; no ``trust_remote_code`` forbids it. Allowed is what
    torch itself computes. And what a field counts is built one by one, before any weight is looked for.
    """
    for keys, value in _fields(_config(source)):
        asked = any("_implementation" in key for key in keys)
        if asked and isinstance(value, str) and value not in IMPLEMENTATIONS:
            raise WidthPruneError(remote_code_remedy(str(source)))
        kind = keys[-1].rpartition("_")[2].removesuffix("s")
        if isinstance(value, int) and value > MOST.get(kind, value):
            raise WidthPruneError(
                f"{source / 'config.json'} says {keys[-1][:40]!r} {str(value)[:20]}, more than {MOST[kind]:,}: copy it again"
            )


def _fields(value, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every field of a config, wherever it stands, under the keys that lead there."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, dict | list):
            yield from _fields(inner, (*keys, str(key)))
        else:
            yield (*keys, str(key)), inner


def check_model(source: Path) -> None:
    """Refuse a directory that certainly holds no model: see `no_model`.

    Raises
    ------
    WidthPruneError
        If it holds an adapter, GGUF weights alone, or no config.json, or cannot be read.
    """
    if what := no_model_in(source):
        raise WidthPruneError(f"{source} {what}")


def no_model_in(source: Path) -> str:
    """`no_model` of a directory's files, or that it cannot be read."""
    try:
        return no_model([path.name for path in source.iterdir() if path.is_file()], source)
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"


def no_model(names: Collection[str], source: Path | None = None) -> str:
    """Why files of these names are certainly no model, and what to name instead; "" if they may be one.

    Parameters
    ----------
    names : collection of str
    source : Path, optional
        The directory that holds them; by default a repository of the hub does.
    """
    if "adapter_config.json" in names:
        return (
            "holds an adapter, not a model: merge it (peft's AutoPeftModelForCausalLM.from_pretrained, then "
            "merge_and_unload and save_pretrained) and name the merged model's directory"
        )
    if "config.json" in names:
        return ""
    if gguf := sorted(name for name in names if is_gguf(Path(name))):
        how = f"name the file, {source / gguf[0]}" if source else f"download the file, {gguf[0]}, and name it"
        return f"holds only GGUF weights: {how}"
    if source is None:
        return "has no config.json, on the hub or in its cache: download it again (`hf download`), or name another model"
    return "has no config.json: name a directory that save_pretrained wrote"


def is_gguf(path: Path) -> bool:
    """Whether a path ends as a GGUF file does, in small letters or capitals."""
    return path.suffix.lower() == ".gguf"


def weight_files(source: Path) -> list[str]:
    """The files that transformers reads a model's weights from, which need not be there; none if it finds none.

    Of a directory that holds one file and an index of several, transformers reads the one.

    Raises
    ------
    WidthPruneError
        If the index is damaged, or names a file outside the directory.
    """
    if _config(source).get("transformers_weights"):
        raise WidthPruneError(
            f"{source / 'config.json'} has transformers_weights, which is not read here: name the weights {WEIGHTS} "
            "and take the field out"
        )
    if (source / WEIGHTS).is_file() or not (source / INDEX).exists():
        return [WEIGHTS] if (source / WEIGHTS).is_file() else []
    weight_map = read_object(source, INDEX).get("weight_map")
    if not weight_map or not isinstance(weight_map, dict) or not all(map(_is_weights, weight_map.values())):
        raise WidthPruneError(f"{source / INDEX} is damaged: copy it again")
    names = list(dict.fromkeys(Path(name).as_posix() for name in weight_map.values()))
    if pair := twins(names):
        raise WidthPruneError(f"{source / INDEX} names {pair}: rename one")
    for name in names:
        own_file(source, name)
    return names


def twins(names: Iterable[str]) -> str:
    """Two names that many file systems take for one, as a phrase; "" if there are none.

    >>> twins(["tiny", "Tiny", "other"])
    "'Tiny' and 'tiny', which are one where letters have no case"
    """
    seen = {}
    for name in sorted(names):
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            return f"{ascii(other)} and {ascii(name)}, which are one where letters have no case"
    return ""


def _config(source: Path) -> dict:
    return read_object(source, "config.json") if (source / "config.json").exists() else {}


def _is_weights(name) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors")


def read_object(source: Path, name: str) -> dict:
    """The object in a JSON file of a model directory.

    Raises
    ------
    WidthPruneError
        If the file lies elsewhere, cannot be read, or holds something else.
    """
    file = own_file(source, name)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise WidthPruneError(f"{file} cannot be read ({error.strerror}): copy it again") from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise WidthPruneError(f"{file} is damaged: copy it again")
    return content
