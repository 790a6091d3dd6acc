"""Results: one file per run, one tidy table over all files.

A run is one task evaluated on one pruned model. Its file holds ``settings`` (everything that could
change the numbers), ``metrics`` (the numbers) and ``provenance`` (where and when). The file's name
carries a hash of the settings, so a rerun with the same settings finds its result and a rerun with
any other setting cannot be taken for it. results/README.md says what each field means, and
`widthprune.report.schema` what it may hold: a file that it refuses is neither written nor read.
"""

import glob
import hashlib
import json
import math
import os
import platform
import re
import tempfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import pandas as pd
import psutil

from ..criteria import criterion_of
from ..errors import WidthPruneError
from ..models.packaged import PACKAGED
from .escaping import as_line

MOST_BYTES = 1_000_000  # of a file; the largest that was measured has 5,000
# Besides model and task, what runs share whose scores may be compared: the same checkpoint, items, prompts
# and arithmetic. Not every task and backend names them all.
SAME_KIND = (
    "revision",
    "task_version",
    "num_fewshot",
    "chat_template",
    "data",
    "limit",
    "seed",
    "dtype",
    "max_length",
    "backend",
)
COLUMNS = {
    "model": "string",
    "revision": "string",
    "criterion": "string",
    "pruning_pct": "float64",
    "intermediate_size": "Int64",
    "expansion_ratio": "float64",
    "task": "string",
    "num_fewshot": "Int64",
    "chat_template": "boolean",
    "task_version": "string",
    "data": "string",
    "metric": "string",
    "value": "float64",
    "stderr": "float64",
    "n": "Int64",
    "limit": "Int64",
    "source": "string",
    "seed": "Int64",
    "neuron_seed": "Int64",
    "dtype": "string",
    "max_length": "Int64",
    "backend": "string",
    "device": "string",
    "weights_format": "string",
    "compute_dtype": "string",
    "commit": "string",
    "duration_s": "float64",
    "contributor": "string",
}

# A profile is a run that measured energy and time: its table says under which protocol, too.
PROFILE_COLUMNS = COLUMNS | {
    "protocol": "string",
    "batch_size": "Int64",
    "max_new_tokens": "Int64",
    "multiple_of": "Int64",
    "weights": "string",
    "threads": "Int64",
    "sources": "string",
}


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


def _file_name(settings: Mapping) -> str:
    return (
        f"{settings['criterion']}-{settings['pruning_pct']:g}pct-{settings['task']}-{run_key(settings)}.json"
    )


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
    """Every file under a directory, sorted; an empty list if there is no directory.

    A stranger's folders may lie deeper within each other than Python's functions may call themselves.
    """
    found, folders = [], [root] if root.is_dir() else []
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            continue  # another process has just removed it
        except PermissionError:
            raise WidthPruneError(
                f"{folder} cannot be read: let this user read it, or move it away"
            ) from None
        for entry in entries:
            (folders if entry.is_dir(follow_symlinks=False) else found).append(Path(entry.path))
    return sorted(found)


def find_run(root: str | Path, settings: Mapping) -> dict | None:
    """The run with exactly these settings, or None if it has not been made."""
    path = run_path(root, settings)
    return read_run(path) if path.exists() else None


def load_results(path: str | Path = "results") -> pd.DataFrame:
    """All benchmark rows under a results directory as one tidy table; profiles have `load_profiles`.

    Returns
    -------
    DataFrame
        One row a number, with the columns and types of ``COLUMNS``; missing entries are empty.
        ``source`` is "measured". No rows if the directory holds no run.

    Raises
    ------
    WidthPruneError
        If the directory is not there, or a file in it is damaged; the message names the file.
    """
    return tidy(pd.DataFrame(_rows(path, profiles=False)))


def stored_results(path: str | Path = "results") -> pd.DataFrame:
    """`load_results`, for those who will write the directory: no rows while it is not there."""
    return load_results(path) if Path(path).is_dir() else tidy(pd.DataFrame())


def load_profiles(path: str | Path = "results") -> pd.DataFrame:
    """All rows of energy and time under a results directory, with the columns of ``PROFILE_COLUMNS``.

    Raises
    ------
    WidthPruneError
        As `load_results`.
    """
    return tidy(pd.DataFrame(_rows(path, profiles=True)), PROFILE_COLUMNS)


def _rows(path, profiles: bool) -> list[dict]:
    root = Path(path)
    if not root.is_dir():
        raise WidthPruneError(
            f"results directory {root} does not exist: run an experiment or name another one"
        )
    found = [_read_rows(file, _version(file)) for file in result_files(root)]
    return [row for profile, rows in found if profile == profiles for row in rows]


@lru_cache(maxsize=10_000)
def _read_rows(file: Path, version: tuple) -> tuple[bool, list[dict]]:
    """Whether a file is a profile, and its rows; read and checked once for all tables made of it."""
    run = read_run(file)
    return is_profile(run), run_rows(run)


def _version(file: Path) -> tuple:
    """What changes when a file does."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


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


def tidy(table: pd.DataFrame, columns: Mapping[str, str] = COLUMNS) -> pd.DataFrame:
    """The table with exactly these columns, in their types; absent columns are empty."""
    return table.reindex(columns=list(columns)).astype(dict(columns))


def sweep(table: pd.DataFrame, model: str, criterion: str = "PPM") -> pd.DataFrame:
    """One model's rows under one criterion, with the unpruned rows they are compared to.

    An unpruned model belongs to every criterion: measured rows name its criterion "none".
    """
    of_model = table[table["model"] == public_name(model)]
    chosen = of_model[(of_model["criterion"] == criterion) | (of_model["pruning_pct"] == 0)]
    return chosen.sort_values(["task", "metric", "pruning_pct"], ignore_index=True)


def one_sweep(table: pd.DataFrame) -> pd.DataFrame:
    """For each model and task, the runs of one kind: that which measured the most models, then the most items.

    A directory may hold a task on 100 items at every width and on 200 at two of them. A comparison takes
    all its points from one of these, never from both; and from prompts in the chat template only where
    there are no others.
    """
    keys = ["model", "task"]
    # A run is told by its settings; n may be empty where it was not published.
    kind = table.groupby([*keys, *SAME_KIND], dropna=False, sort=False).ngroup()
    points = table.assign(kind=kind).drop_duplicates(["kind", "criterion", "neuron_seed", "pruning_pct"])
    kinds = points.groupby([*keys, "chat_template", "kind"], dropna=False)["n"].agg(["size", "max"])
    best = (
        kinds.reset_index()
        .sort_values(
            ["chat_template", "size", "max"],
            ascending=[True, False, False],
            na_position="first",
            kind="stable",
        )
        .drop_duplicates(keys)
    )
    return table[kind.isin(best["kind"])].reset_index(drop=True)


def stored_sweeps(
    path: str | Path,
    models: Iterable[str],
    tasks: Iterable[str],
    criteria: Iterable[str] = ("PPM",),
    *,
    chat_template: bool = False,
) -> pd.DataFrame:
    """What a results directory holds of some models on some tasks, unpruned and under some criteria.

    For each model and task the runs of one kind, as `one_sweep` chooses them, of those that put prompts
    into the chat template or of those that did not; no rows where none is there, or no directory yet.
    """
    table = stored_results(path)
    asked = table["model"].isin([public_name(model) for model in models]) & table["task"].isin(list(tasks))
    asked &= table["chat_template"] == chat_template
    return one_sweep(table[asked & table["criterion"].isin(["none", *criteria])])


def write_atomically(path: str | Path, text: str | bytes) -> None:
    """Write a file so that a reader, or a kill at any moment, sees the old file or the new one.

    What processes of this machine that were killed left of the same file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{glob.escape(f'.{path.name}.{_machine()}-')}*.partial"):
        pid = left.name.removesuffix(".partial").rpartition("-")[2].partition(".")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            left.unlink(missing_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=partial_prefix(path), suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk is told of the file's number, not of its name
        raise


def partial_prefix(path: Path) -> str:
    """How the name of a file begins while it is written; eight characters and ``.partial`` follow."""
    return f".{path.name}.{_machine()}-{os.getpid()}."


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _metric_to_json(row: Mapping) -> dict:
    value, stderr = row["value"], row["stderr"]
    if isinstance(value, float) and not math.isfinite(value):
        value = str(value)
    # An error that could not be computed is no error.
    unknown = isinstance(stderr, float) and math.isnan(stderr)
    return {"metric": row["metric"], "value": value, "stderr": None if unknown else stderr, "n": row["n"]}
