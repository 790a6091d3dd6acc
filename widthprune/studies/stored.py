"""The studies' tables on disk: one CSV file for each model and study, whole or not at all, its provenance on top.

Files are ``RESULTS/studies/STUDY-MODEL.csv``. The first line is a comment with JSON: how the model was grown or loaded,
commit, device, duration. A study that is there is read and not made again.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ConfigDict, TypeAdapter

from ..commands.options import check_path, check_writable
from ..errors import WidthPruneError, first_line
from ..models.packaged import weights_format
from ..report.atomic import write_atomically
from ..report.escaping import as_line
from ..report.provenance import record, short_commit
from ..report.schema import Count, Plain, Provenance, Seed, metric_range, refused, within

FOLDER = "studies"
SIZE = ("hidden_size", "layers", "neurons")  # fields of a recipe
KEYS = {"kind": "string", "seed": "int64", "stage": "string"}
NUMBER = {"value": "float64", "stderr": "float64", "n": "int64"}
MEASURED = (*NUMBER, "rho", "share", "random", "random_sd", "width", "parameters", "groups", "neurons")
# Metrics of `amp_heads`: changes to neurons and groups, by what else was removed.
AGAINST = {"these neurons": "against_these_neurons", "neurons": "against_neurons"}
# Of what a first line says, what functions call otherwise.
ARGUMENTS = {"dtype": "compute_dtype", "calibration": "text", "calibration_sequences": "sequences"}
PLAIN = TypeAdapter(Plain)
_WIDTH = {"criterion": "string", "draw": "int64", "pruning_pct": "float64"}
_SLICED = {"model": "string", "counted": "string", "pruning_pct": "float64", "width": "int64"}
_SLICED |= {"parameters": "int64", "task": "string", "metric": "string"} | NUMBER
# A study's columns, with their types. removal: what is left of a base model, and tuned: of a tuned one; halves: the same
# where one half is held; ranks, shares: where tuning wrote; causal: its changes put back in some neurons.
# attributed: `misconceptions` and `integrated` of their facts. misconceptions, integrated, slicegpt, slicegpt_text, amp_heads,
# four_bits: of packaged models, see `widthprune.studies.packaged`.
STUDIES = {
    "misconceptions": {"model": "string", "measure": "string", "set": "string"} | _WIDTH | NUMBER,
    "integrated": {"model": "string", "measure": "string", "set": "string"} | _WIDTH | NUMBER,
    "slicegpt": _SLICED,
    "slicegpt_text": _SLICED,
    "amp_heads": {"model": "string", "removed": "string", "pruning_pct": "float64", "groups": "int64"}
    | {"neurons": "int64", "parameters": "int64", "task": "string", "metric": "string"}
    | NUMBER,
    "four_bits": dict.fromkeys(("model", "weights", "chosen_by", "criterion"), "string")
    | {"pruning_pct": "float64", "task": "string", "metric": "string"}
    | NUMBER,
    "attributed": {"kind": "string", "seed": "int64", "measure": "string", "set": "string"} | _WIDTH | NUMBER,
    "removal": KEYS | _WIDTH | {"measure": "string"} | NUMBER,
    "tuned": KEYS | _WIDTH | {"measure": "string"} | NUMBER,
    "halves": KEYS | _WIDTH | {"measure": "string"} | NUMBER,
    "ranks": {
        "kind": "string",
        "seed": "int64",
        "layer": "int64",
        "matrix": "string",
        "change": "string",
        "rho": "float64",
    },
    "shares": {"kind": "string", "seed": "int64", "pruning_pct": "float64"}
    | dict.fromkeys(("share", "random", "random_sd"), "float64"),
    "causal": {"kind": "string", "seed": "int64", "put_back": "string"}
    | _WIDTH
    | {"measure": "string"}
    | NUMBER,
}


class FirstLine(Provenance):
    """What a first line says that is counted, compared or shown: it may lack any of it, and say more."""

    model_config = ConfigDict(extra="allow")

    steps: Count = 1
    hidden_size: Count = 1
    layers: Count = 1
    neurons: Count = 1
    seed: Seed = 0
    limit: Count | None = None
    dtype: Plain = ""


def study(
    results_dir: str | Path,
    name: str,
    model: str,
    made_by: Mapping,
    make: Callable[[], pd.DataFrame],
    *,
    measure: bool = True,
    otherwise: Mapping | None = None,
) -> pd.DataFrame:
    """A study's table of one model: from its file, or made now and stored.

    Parameters
    ----------
    results_dir : path
    name : str
        One of `STUDIES`.
    model : str
        What the file is named after.
    made_by : mapping
        How the model was grown or what was asked of it; stored beside commit, device and duration.
    make : function
        Gives the table, with the columns of the study.
    measure : bool
        If False, what is missing is named.
    otherwise : mapping, optional
        What holds where ``made_by`` does not ask for it: stored beside it, and not required of a file that is there.

    Raises
    ------
    WidthPruneError
        If the file is damaged, was made in another way, or is missing where nothing may be measured or no file be written.
    """
    path = _folder(results_dir) / f"{name}-{model}.csv"
    made_by = json.loads(json.dumps(dict(made_by)))  # as it is stored: tuples are lists
    if not path.exists() and not measure:
        raise WidthPruneError(f"{path} is not there, and nothing may be measured: run it with measure=True")
    if not path.exists():
        # Before hours of work.
        for place in (path.parent.parent, path.parent):
            check_writable("results_dir must be a folder that can be written", place)
        said = dict(otherwise or {}) | made_by
        if wrong := refused(FirstLine, said):
            raise WidthPruneError(f"{name} cannot be made and kept: choose another value, {wrong[0]}")
        with record() as provenance:
            table = make()[list(STUDIES[name])]
        said |= {key: provenance[key] for key in ("commit", "device", "duration_s", "packages")}
        text = f"# {json.dumps(said)}\n{table.to_csv(index=False, float_format='%.6g')}"
        try:
            write_atomically(path, text)
        except OSError as error:
            raise WidthPruneError(
                f"{path} cannot be written ({error.strerror}): name another directory of results"
            ) from error
    _check_made_by(path, made_by)
    return read_table(path, name)


def _folder(results_dir: str | Path) -> Path:
    """Where the studies of a directory lie, which need not be there; a file in its place is refused."""
    check_path("results_dir", results_dir)
    folder = Path(results_dir, FOLDER)
    for place in (folder.parent, folder):
        if place.exists() and not place.is_dir():
            raise WidthPruneError(f"results_dir must be a folder, and {place} is a file: name another")
    return folder


def _check_made_by(path: Path, made_by: Mapping) -> None:
    said = provenance(path)
    for key, asked in made_by.items():
        if said.get(key, asked) != asked:
            told = as_line(said[key])[:200]
            raise WidthPruneError(
                f"{path} was made with {ARGUMENTS.get(key, key)} {told}, not {asked}: name another directory of results"
            )


def read_table(path: Path, name: str) -> pd.DataFrame:
    """One file, checked.

    Raises
    ------
    WidthPruneError
        If it has other columns than the study, or no numbers where there must be.
    """
    columns = STUDIES[name]
    try:
        table = pd.read_csv(path, comment="#")
        if list(table) != list(columns):
            raise ValueError(f"its columns are {', '.join(map(str, table))}"[:200])
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("its rows have more fields than it has columns")
        # An empty text is no missing one.
        texts = [column for column, kind in columns.items() if kind == "string"]
        found = table.astype(columns).fillna(dict.fromkeys(texts, ""))
        _check_body(table, found, texts)
        return found
    except (OSError, ValueError, OverflowError) as error:
        raise _damaged(path, first_line(error)) from None


def _check_body(table: pd.DataFrame, found: pd.DataFrame, texts: Sequence[str]) -> None:
    """Raise `ValueError` for what no study writes: fractions of an item, numbers out of range, markup, a row twice."""
    for column in found:
        own = found[column]
        if column in texts:
            wrong = [text for text in own.unique() if refused(PLAIN, text)]
        elif column == "pruning_pct":
            wrong = own[~own.between(0, 100)]
        elif column in ("stderr", "random_sd"):
            wrong = own[own < 0]
        elif own.dtype == "int64":
            wrong = table[column][(own < 0) | (own != table[column])]
        elif column == "value" and "metric" in found:
            wrong = own[[not _can_be(*row) for row in zip(found["metric"], own, strict=True)]]
        else:
            wrong = own[np.isinf(own)]
        if len(wrong):
            raise ValueError(f"{column} cannot be {list(wrong)[0]!r}")
    keys = [column for column in found if column not in MEASURED]
    if found.duplicated(keys).any():
        raise ValueError("a row is there twice")


def _can_be(metric: str, value: float) -> bool:
    """Whether a metric can have a value: a benchmark's as in its own results, where a perplexity may be infinite."""
    if metric in AGAINST.values():  # and so may a change of its logarithm
        return True
    limits = metric_range("benchmark", metric)
    return np.isnan(value) or (within(value, limits) if limits else np.isfinite(value))


def provenance(path: Path) -> dict:
    """What the first line of a file says.

    Raises
    ------
    WidthPruneError
        If it is no JSON, or `FirstLine` refuses it.
    """
    try:
        with path.open(encoding="utf-8") as file:
            said = json.loads(file.readline().removeprefix("# "))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, first_line(error)) from None
    if wrong := refused(FirstLine, said):
        raise _damaged(path, wrong[0])
    return said


def _damaged(path: Path, why: str) -> WidthPruneError:
    return WidthPruneError(f"{path} is damaged ({as_line(why)[:300]}): delete it and run the study again")


def stored(results_dir: str | Path, name: str, **recipe) -> pd.DataFrame:
    """A study's tables of all models in one; without rows where none is there.

    Where models were grown by several recipes, those of the size and the steps that most of them have, and of as many
    those that took more steps, since they know more.

    Parameters
    ----------
    results_dir : path
    name : str
        One of `STUDIES`.
    **recipe
        What models must have been grown by, such as `widthprune.studies.growing.Recipe.shared`.
    """
    tables = [read_table(path, name) for path in _chosen(results_dir, name, recipe)]
    empty = pd.DataFrame(columns=list(STUDIES[name])).astype(STUDIES[name])
    return pd.concat(tables, ignore_index=True) if tables else empty


def _chosen(results_dir: str | Path, name: str, recipe: Mapping) -> dict[Path, dict]:
    """The files that `stored` reads, with what their first lines say."""
    paths = sorted(_folder(results_dir).glob(f"{name}-*.csv"))
    found = {path: provenance(path) for path in paths}
    found = {path: said for path, said in found.items() if recipe.items() <= said.items()}
    grown = Counter(map(_grown, found.values()))
    most = max(grown, key=lambda own: (grown[own], own[0]), default=None)
    return {path: said for path, said in found.items() if _grown(said) == most}


def _grown(said: Mapping) -> tuple:
    """Steps and size of a grown model; the same for all others."""
    return said.get("steps", 0), *(said.get(field) for field in SIZE)


class StoredStudies(Mapping):
    """`stored` of every study of a directory, by name: read when it is first asked for, which most chapters do not."""

    def __init__(self, results_dir: str | Path):
        self.results_dir, self._read = results_dir, {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in STUDIES:
            raise KeyError(name)
        if name not in self._read:
            self._read[name] = stored(self.results_dir, name)
        return self._read[name]

    def __iter__(self):
        return iter(STUDIES)

    def __len__(self) -> int:
        return len(STUDIES)


def origin(results_dir: str | Path, name: str, **recipe) -> str:
    """One line on where a study's numbers come from: those that `stored` gives."""
    found = _chosen(results_dir, name, recipe)
    if not found:
        return "not measured here"
    paths, said = found.keys(), found.values()
    devices = ", ".join(sorted({one.get("device", "unknown") for one in said}))
    commits = ", ".join(sorted({short_commit(one.get("commit", "unknown")) for one in said}))
    steps = sorted({str(one["steps"]) for one in said if "steps" in one})
    if steps:
        models = f"{len(paths)} grown models, {', '.join(steps)} steps each"
    else:
        names = [path.stem.removeprefix(f"{name}-") for path in paths]
        models = "; ".join(map(_described, names, said))
    return f"Measured: {models}, on {devices}, commit {commits}."


def _described(model: str, said: Mapping) -> str:
    """A packaged model with the precision of its weights, and which items it was tried on."""
    stored = weights_format(model) or "the checkpoint's dtype"
    items = "all items" if said.get("limit") is None else f"limit {said['limit']}"
    return f"{model} ({stored}, computed in {said.get('dtype', 'unknown')}), {items}, seed {said.get('seed', 'unknown')}"
