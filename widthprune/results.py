"""Results: one file per run, one tidy table over all files.

A run is one task evaluated on one pruned model. Its file holds ``settings`` (everything that could
change the numbers), ``metrics`` (the numbers) and ``provenance`` (where and when). The file's name
carries a hash of the settings, so a rerun with the same settings finds its result and a rerun with
any other setting cannot be taken for it. results/README.md says what each field means.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from .criteria import criterion_of
from .errors import WidthPruneError

SCHEMA = 1
# What must be there to place a number in the table; a task may add settings of its own.
SETTINGS = (
    "model",
    "criterion",
    "pruning_pct",
    "intermediate_size",
    "expansion_ratio",
    "task",
    "num_fewshot",
    "limit",
    "seed",
    "dtype",
)
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
METRIC_FIELDS = ("metric", "value", "stderr", "n")
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


def run_key(settings: Mapping) -> str:
    """Hash of everything that could change a result: 12 hexadecimal digits."""
    text = json.dumps(settings, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_path(root: str | Path, settings: Mapping) -> Path:
    """Where the result of these settings lies: ``root/model/criterion-pct-task-key.json``."""
    if missing := [name for name in SETTINGS if name not in settings]:
        raise WidthPruneError(f"settings must name {', '.join(SETTINGS)}; missing: {', '.join(missing)}")
    model = str(settings["model"]).strip("/").replace("/", "--")
    name = (
        f"{settings['criterion']}-{settings['pruning_pct']:g}pct-{settings['task']}-{run_key(settings)}.json"
    )
    return Path(root) / model / name


def write_run(root: str | Path, settings: Mapping, metrics: Iterable[Mapping], provenance: Mapping) -> Path:
    """Write one run's file, whole or not at all, and return its path.

    Each of ``metrics`` has the fields ``metric``, ``value``, ``stderr`` (or None) and ``n``. NaN and
    infinite values are kept, as the strings "nan", "inf" and "-inf", since JSON has no number for them.
    """
    metrics = [{name: _to_json(row[name]) for name in METRIC_FIELDS} for row in metrics]
    run = {
        "schema": SCHEMA,
        "settings": dict(settings),
        "metrics": metrics,
        "provenance": dict(provenance),
    }
    path = run_path(root, settings)
    write_atomically(path, json.dumps(run, indent=1, allow_nan=False) + "\n")
    return path


def read_run(path: str | Path) -> dict:
    """One run's file, checked; its metric values are floats again."""
    path = Path(path)
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        if run["schema"] != SCHEMA:
            raise WidthPruneError(
                f"{path} has schema {run['schema']}, this version reads {SCHEMA}: upgrade widthprune"
            )
        if not all(name in run["settings"] for name in SETTINGS) or not run["metrics"]:
            raise KeyError("settings or metrics")
        for row in run["metrics"]:
            row["metric"] = str(row["metric"])
            row["value"] = float(row["value"])
            row["stderr"] = math.nan if row["stderr"] is None else float(row["stderr"])
            row["n"] = None if row["n"] is None else int(row["n"])
        run["provenance"].get("commit")
    except WidthPruneError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise WidthPruneError(
            f"{path} is not a whole results file ({type(error).__name__}): delete it and run that experiment again"
        ) from None
    if path.name != run_path(".", run["settings"]).name:
        raise WidthPruneError(
            f"{path} does not carry the name of its settings, {run_path('.', run['settings']).name}: "
            "rename it if they were edited on purpose, else restore it"
        )
    return run


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
    runs = [read_run(file) for file in sorted(root.rglob("*.json"))]
    return [row for run in runs if is_profile(run) == profiles for row in run_rows(run)]


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
    of_model = table[table["model"] == model]
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
    kind = [*keys, *SAME_KIND]
    points = table.drop_duplicates([*kind, "criterion", "neuron_seed", "pruning_pct"])
    kinds = points.groupby(kind, dropna=False)["n"].agg(["size", "max"]).reset_index()
    kinds = kinds.sort_values(
        ["chat_template", "size", "max"], ascending=[True, False, False], na_position="first", kind="stable"
    ).drop_duplicates(keys)
    return tidy(table.merge(kinds[kind], on=kind))


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
    into the chat template or of those that did not; no rows where none is there.
    """
    table = load_results(path)
    asked = table["model"].isin(list(models)) & table["task"].isin(list(tasks))
    asked &= table["chat_template"] == chat_template
    return one_sweep(table[asked & table["criterion"].isin(["none", *criteria])])


def write_atomically(path: str | Path, text: str | bytes) -> None:
    """Write a file so that a reader, or a kill at any moment, sees the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode() if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _to_json(value):
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
