"""One run in one file: what it is called, how it is written, and what is refused as it is read.

A run is one task evaluated on one pruned model. Its file holds ``settings`` (everything that could
change the numbers), ``metrics`` (the numbers) and ``provenance`` (where and when). The file's name
carries a hash of the settings, so a rerun with the same settings finds its result and a rerun with
any other setting cannot be taken for it. results/README.md says what each field means, and
`widthprune.report.schema` what it may hold: a file that it refuses is neither written nor read.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..criteria import criterion_of
from ..errors import WidthPruneError
from ..models.packaged import PACKAGED
from .atomic import write_atomically
from .escaping import as_line

MOST_BYTES = 1_000_000  # of a file; the largest that was measured has 5,000


def public_name(model: str) -> str:
    """A model as results, records and books name it: a local path by its last part, all else as it is.

    What the directory holds is told by the ``revision`` beside the name, a hash of its files. The path would
    tell of somebody's machine, and make the same model elsewhere another one.

    >>> public_name("meta-llama/Llama-3.2-1B"), public_name("/models/of mine/tiny (v2)/")
    ('meta-llama/Llama-3.2-1B', 'tiny-v2')
    """
    model = str(model).replace("\0", "")
    local = model.startswith((".", "~")) or os.path.isabs(model) or os.path.exists(model)
    if model in PACKAGED or not local:
        return model
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", os.path.basename(os.path.realpath(model))).strip(".-")[:100]
    # Another model's numbers must not stand under the name of a packaged one.
    return f"{name}-local" if name in PACKAGED else name or "model"


def published_settings(settings: Mapping) -> dict:
    """Settings as files hold them: no local path, and hardware in plain characters."""
    found = dict(settings)
    if "model" in found:
        found["model"] = public_name(found["model"])
    return found | {name: plain(found[name]) for name in ("device",) if name in found}


def plain(text: str) -> str:
    """Text of a driver or an operating system in the characters that a results file may hold."""
    return " ".join(re.sub(r"[^A-Za-z0-9 ._:,/()@+-]", " ", str(text)).split())[:200]


def run_key(settings: Mapping) -> str:
    """Hash of everything that could change a result: 12 hexadecimal digits."""
    text = json.dumps(settings, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_path(root: str | Path, settings: Mapping) -> Path:
    """Where the result of these settings lies: ``root/model/criterion-pct-task-key.json``.

    Raises
    ------
    WidthPruneError
        If a setting is missing, or no results file may hold it: said before there is anything to write.
    """
    settings = published_settings(settings)
    if wrong := _schema().wrong_settings(settings):
        raise WidthPruneError(f"settings: {'; '.join(wrong)}")
    return stored_path(root, settings)


def stored_path(root: str | Path, settings: Mapping) -> Path:
    """`run_path` of settings that are as a file holds them."""
    return Path(root, settings["model"].replace("/", "--"), _file_name(settings))


def write_run(root: str | Path, settings: Mapping, metrics: Iterable[Mapping], provenance: Mapping) -> Path:
    """Write one run's file, whole or not at all, and return its path.

    Each of ``metrics`` has the fields ``metric``, ``value``, ``stderr`` (or None) and ``n``. NaN and
    infinite values are kept, as the strings "nan", "inf" and "-inf", since JSON has no number for them.

    Raises
    ------
    WidthPruneError
        If the schema of results files refuses a field.
    """
    path = run_path(root, settings)
    write_atomically(path, run_text(published_settings(settings), metrics, provenance))
    return path


def run_text(settings: Mapping, metrics: Iterable[Mapping], provenance: Mapping) -> str:
    """The text of a run's file, checked; its settings as `published_settings` gives them."""
    run = {
        "schema": _schema().VERSION,
        "settings": dict(settings),
        "metrics": [_metric_to_json(row) for row in metrics],
        "provenance": published_settings(provenance),
    }
    text = json.dumps(run, indent=1, allow_nan=False) + "\n"
    if wrong := _schema().wrong_fields(run):
        raise WidthPruneError(f"a result cannot be written: {_some(wrong)}")
    return text


def read_run(path: str | Path) -> dict:
    """One run's file, checked against the schema; its metric values are floats again.

    Raises
    ------
    WidthPruneError
        In one line that names the file and what is wrong with it: each field that the schema refuses, a file
        that is no results file at all, and one that does not carry the name of its settings.
    """
    path = Path(path)
    run = _read_json(path)
    known, version = _schema().VERSION, run.get("schema") if isinstance(run, dict) else None
    if type(version) is int and version > known:
        raise WidthPruneError(
            f"{as_line(path)} has schema {version}, this version reads {known}: upgrade widthprune"
        )
    if wrong := _schema().wrong_fields(run):
        raise WidthPruneError(f"{as_line(path)} is refused: {_some(wrong)}")
    if path.name != (name := _file_name(run["settings"])):
        raise WidthPruneError(
            f"{as_line(path)} does not carry the name of its settings, {name}: "
            "rename it if they were edited on purpose, else restore it"
        )
    for row in run["metrics"]:
        row["value"] = float(row["value"])
        row["stderr"] = math.nan if row["stderr"] is None else float(row["stderr"])
    return run


def find_run(root: str | Path, settings: Mapping) -> dict | None:
    """The run with exactly these settings, or None if it has not been made."""
    path = run_path(root, settings)
    return read_run(path) if path.exists() else None


def is_profile(run: Mapping) -> bool:
    """Whether a run measured time and energy, and not a benchmark."""
    return "protocol" in run["settings"]


def run_rows(run: Mapping) -> list[dict]:
    """One run's numbers as rows for the tidy table."""
    # Only runs that put prompts into the chat template say so: lm-eval's default is to leave it out.
    settings = {"chat_template": False} | run["settings"]
    record = criterion_of(settings["criterion"])
    if record is not None and record.seeded:
        # Unless said otherwise, one seed draws both the items and the neurons.
        settings = {"neuron_seed": settings["seed"]} | settings
    return [run["provenance"] | settings | row | {"source": "measured"} for row in run["metrics"]]


def result_files(root: str | Path, suffix: str = ".json") -> list[Path]:
    """The results files under a directory, in order of their names.

    What other programs leave beside files is none: names that begin with a dot, ``__MACOSX``, directories.
    """
    root = Path(root)
    return [
        path
        for path in files_under(root)
        if path.name.endswith(suffix)
        and not any(part[0] == "." or part == "__MACOSX" for part in path.relative_to(root).parts)
        # A link is one even where it leads nowhere: a result that is missing must be named.
        and (path.is_file() or path.is_symlink())
    ]


def files_under(root: Path) -> list[Path]:
    """Every file under a directory, sorted; an empty list if there is no directory."""
    return _files_and_folders(root)[0]


def folders_under(root: Path) -> list[Path]:
    """Every folder under a directory, sorted; an empty list if there is no directory."""
    return _files_and_folders(root)[1]


def _files_and_folders(root: Path) -> tuple[list[Path], list[Path]]:
    """Folders of a stranger's may lie deeper within each other than Python's functions may call themselves."""
    files, folders = [], [root] if root.is_dir() else []
    for folder in folders:  # which grows meanwhile
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            continue  # another process has just removed it
        except PermissionError:
            raise WidthPruneError(
                f"{folder} cannot be read: let this user read it, or move it away"
            ) from None
        except OSError as error:
            # Such as of folders so deep within each other that the system has no name for them.
            raise WidthPruneError(
                f"{root} holds a folder that cannot be read ({error.strerror}), {str(folder)[-60:]!r}: move it away"
            ) from None
        for entry in entries:
            (folders if entry.is_dir(follow_symlinks=False) else files).append(Path(entry.path))
    return sorted(files), sorted(folders[1:])


def _file_name(settings: Mapping) -> str:
    return (
        f"{settings['criterion']}-{settings['pruning_pct']:g}pct-{settings['task']}-{run_key(settings)}.json"
    )


def _read_json(path: Path) -> object:
    """A file's JSON, of strict syntax and of a size that a result can have."""
    from pydantic_core import from_json

    try:
        if path.exists() and not path.is_file():
            raise ValueError("no regular file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        found = from_json(data, allow_inf_nan=False)
        json.loads(data, object_pairs_hook=_each_once)
        return found
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise WidthPruneError(
            f"{as_line(path)} is not a whole results file ({as_line(why)}): "
            "delete it and run that experiment again"
        ) from None


def _each_once(pairs: list[tuple[str, object]]) -> dict:
    """An object's fields; one that is there twice would be another thing to another reader."""
    found = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the field {name!r:.60} is there twice")
        found[name] = value
    return found


def _schema():
    # Its library takes a tenth of a second to import, which no plan of pruning needs.
    from . import schema

    return schema


def _some(wrong: list[str]) -> str:
    return "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")


def _metric_to_json(row: Mapping) -> dict:
    value, stderr = row["value"], row["stderr"]
    if isinstance(value, float) and not math.isfinite(value):
        value = str(value)
    # An error that could not be computed is no error.
    unknown = isinstance(stderr, float) and math.isnan(stderr)
    return {"metric": row["metric"], "value": value, "stderr": None if unknown else stderr, "n": row["n"]}
