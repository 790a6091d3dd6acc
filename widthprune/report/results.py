"""One tidy table over all runs of a directory, and which of its rows may be compared."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import pandas as pd

from ..errors import WidthPruneError
from .runs import is_profile, public_name, read_run, result_files, run_rows

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
    kind = table.groupby([*keys, *SAME_KIND], dropna=False).ngroup()
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
