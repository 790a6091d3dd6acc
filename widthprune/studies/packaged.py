"""The studies of models that are loaded by name: from their files, or made now. Nothing heavy is imported until then."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from ..commands.options import COUNT, PERCENTAGE, SEED, Number, check_model_name, check_path, check_several
from ..errors import WidthPruneError
from ..report.runs import public_name
from ..report.tasks import data_dir
from .pairs import MYTHS, SETS, Pair, load_pairs
from .stored import study

PAIRS = Number(
    int, "a whole number of at least 2, as half of the pairs are looked at", lambda n: 2 <= n < 2**63
)
ONE, SEVERAL = {"limit": COUNT, "seed": SEED, "draws": COUNT}, {"pcts": PERCENTAGE, "tasks": None}
REMOVED = (1.0, 5.0, 10.0)
DRAWS = 3
DTYPES = ("float32", "bfloat16", "float16")
INTEGRATED = 2  # pairs of each set
SLICED = (10.0, 20.0)
SLICED_TASKS = ("pocket_prose", "pocket_facts", "pocket_misconceptions_mc2")


def sets_at_hand() -> list[str]:
    """Names of the sets of pairs that can be read: without ``WIDTHPRUNE_DATA`` the package's own alone."""
    return list(SETS) if data_dir() else ["pocket"]


def misconceptions(
    model: str,
    results_dir: str | Path = "results",
    *,
    measure: bool,
    limit: int | None = 100,
    seed: int = 0,
    pcts: Sequence[float] = REMOVED,
    draws: int = DRAWS,
    device: str = "cpu",
    compute_dtype: str | None = None,
) -> pd.DataFrame:
    """`widthprune.studies.misconceptions.study_misconceptions` of a model, on the sets that are at hand.

    Parameters
    ----------
    model : str
        As `load_model` takes it.
    results_dir : path
    measure : bool
        If False, a study that is not there is named.
    limit, seed
        Pairs of each set, and what draws them.
    pcts, draws
        Percentages of neurons removed; how often random ones.
    compute_dtype : str, optional
        What the model computes in, one of ``DTYPES``. Where float32 would take hours, name that of the weights. Default what a
        stored study was made with, and float32 to make one.

    Raises
    ------
    WidthPruneError
        As `load_model`, `compute_in`, `load_pairs` and `study`.
    """

    if limit is not None:
        PAIRS.check("limit", limit)

    def make(network, tokenizer) -> pd.DataFrame:
        from .misconceptions import study_misconceptions

        return study_misconceptions(
            network, tokenizer, _pairs(limit, seed), myths=MYTHS, pcts=pcts, draws=draws
        )

    asked = dict(limit=limit, seed=seed, pcts=pcts, draws=draws)
    how = dict(measure=measure, device=device, compute_dtype=compute_dtype)
    table = _of_model("misconceptions", model, results_dir, make, asked, **how)
    return _with_all_sets(table, results_dir, measure)


def integrated(
    model: str,
    results_dir: str | Path = "results",
    *,
    measure: bool,
    limit: int | None = INTEGRATED,
    seed: int = 0,
    device: str = "cpu",
    compute_dtype: str | None = None,
) -> pd.DataFrame:
    """`widthprune.studies.misconceptions.study_integrated` of a model; parameters and errors as of `misconceptions`."""

    def make(network, tokenizer) -> pd.DataFrame:
        from .misconceptions import study_integrated

        return study_integrated(network, tokenizer, _pairs(limit, seed))

    how = dict(measure=measure, device=device, compute_dtype=compute_dtype)
    table = _of_model("integrated", model, results_dir, make, dict(limit=limit, seed=seed), **how)
    return _with_all_sets(table, results_dir, measure)


def _pairs(limit: int | None, seed: int) -> dict[str, list[Pair]]:
    return {name: load_pairs(name, limit, seed) for name in sets_at_hand()}


def _with_all_sets(table: pd.DataFrame, results_dir: str | Path, measure: bool) -> pd.DataFrame:
    """A table that holds every set which could be measured now."""
    if measure and (lacking := [name for name in sets_at_hand() if name not in set(table["set"])]):
        raise WidthPruneError(
            f"{results_dir} holds this study without {', '.join(lacking)}: name another directory of results"
        )
    return table


def slicegpt(
    model: str,
    results_dir: str | Path = "results",
    *,
    measure: bool,
    limit: int | None = None,
    seed: int = 0,
    pcts: Sequence[float] = SLICED,
    tasks: Sequence[str] = SLICED_TASKS,
    device: str = "cpu",
) -> pd.DataFrame:
    """`widthprune.studies.equal_size.study_slicegpt` of a model; parameters and errors as of `misconceptions`."""

    asked = dict(limit=limit, seed=seed, pcts=pcts, tasks=tasks)
    return _at_sizes("slicegpt", "study_slicegpt", model, results_dir, asked, measure=measure, device=device)


def slicegpt_text(
    model: str,
    results_dir: str | Path = "results",
    *,
    measure: bool,
    text: str | Path,
    sequences: int = 128,
    limit: int | None = None,
    seed: int = 0,
    pcts: Sequence[float] = SLICED,
    tasks: Sequence[str] = SLICED_TASKS,
    device: str = "cpu",
) -> pd.DataFrame:
    """`slicegpt` with axes found on another text than the package's own; parameters and errors as of `misconceptions`.

    Parameters
    ----------
    text, sequences
        As of `widthprune.calibration.Calibration`; not looked at where nothing may be measured.
    """
    from ..calibration import Calibration

    check_path("text", text)
    asked = dict(limit=limit, seed=seed, pcts=pcts, tasks=tasks)
    how = dict(measure=measure, device=device, calibration=Calibration(Path(text), sequences))
    return _at_sizes("slicegpt_text", "study_slicegpt", model, results_dir, asked, **how)


def amp_heads(
    model: str,
    results_dir: str | Path = "results",
    *,
    measure: bool,
    limit: int | None = None,
    seed: int = 0,
    pcts: Sequence[float] = SLICED,
    tasks: Sequence[str] = SLICED_TASKS,
    device: str = "cpu",
    compute_dtype: str | None = None,
) -> pd.DataFrame:
    """`widthprune.studies.equal_size.study_heads` of a model; parameters and errors as of `misconceptions`."""

    asked = dict(limit=limit, seed=seed, pcts=pcts, tasks=tasks)
    how = dict(measure=measure, device=device, compute_dtype=compute_dtype)
    table = _at_sizes("amp_heads", "study_heads", model, results_dir, asked, **how)
    if measure and "these neurons" not in set(table["removed"]):  # as versions before made it
        raise WidthPruneError(
            f'{results_dir} holds amp_heads of an earlier version, without rows of "these neurons": delete its file, and '
            "run the study again"
        )
    return table


def _at_sizes(
    name, maker, model, results_dir, asked: dict, *, measure: bool, calibration=None, **how
) -> pd.DataFrame:
    """A study of `widthprune.studies.equal_size`, by the name of its function: torch comes with that module."""

    def make(network, tokenizer) -> pd.DataFrame:
        from . import equal_size

        return getattr(equal_size, maker)(network, tokenizer, **asked, calibration=calibration)

    looks_at = calibration.identity() if calibration and measure else {}
    return _of_model(name, model, results_dir, make, asked, measure=measure, looks_at=looks_at, **how)


def four_bits(
    model: str,
    results_dir: str | Path = "results",
    *,
    measure: bool,
    limit: int | None = None,
    seed: int = 0,
    tasks: Sequence[str] = SLICED_TASKS,
    device: str = "cpu",
) -> pd.DataFrame:
    """`widthprune.studies.four_bits.study_four_bits` of a model; parameters and errors as of `misconceptions`."""

    def make(network, tokenizer) -> pd.DataFrame:
        from .four_bits import study_four_bits

        return study_four_bits(network, tokenizer, tasks, limit=limit, seed=seed)

    asked = dict(limit=limit, seed=seed, tasks=tasks)
    return _of_model("four_bits", model, results_dir, make, asked, measure=measure, device=device)


def _checked(asked: dict) -> dict:
    """What was asked for, as it is stored; refused, where it cannot be asked, before anything is loaded."""
    checked = dict(asked)
    for name, value in asked.items():
        if name in SEVERAL:
            checked[name] = check_several(name, value, SEVERAL[name])
        elif (name, value) != ("limit", None):
            ONE[name].check(name, value)
    return checked


def _of_model(
    name,
    model,
    results_dir,
    make,
    asked: dict,
    *,
    measure: bool,
    device: str,
    compute_dtype: str | None = None,
    looks_at: Mapping = MappingProxyType({}),
) -> pd.DataFrame:
    """A study of one model: from its file, or by ``make`` of the model and its tokenizer."""
    asked = _checked(asked) | dict(looks_at)
    dtype = DTYPES[0] if compute_dtype is None else compute_dtype
    if dtype not in DTYPES:
        raise WidthPruneError(f"compute_dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if compute_dtype is not None:
        asked["dtype"] = dtype
    if measure or not isinstance(model, str):
        check_model_name(model)
    public = public_name(model)
    if measure:  # the model is at hand: a branch of a hub moves, a directory is saved anew
        from ..models.arithmetic import compute_in
        from ..models.loading import load_model, model_revision

        asked["revision"] = model_revision(model)

    def made() -> pd.DataFrame:
        # float32 is the default, and rounds float64, in which no study is made.
        network, tokenizer = load_model(model, dtype=dtype if dtype == DTYPES[0] else "auto", device=device)
        return make(compute_in(network, dtype), tokenizer).assign(model=public)

    how = dict(measure=measure, otherwise={"dtype": dtype})
    table = study(results_dir, name, public.split("/")[-1], asked, made, **how)
    if other := set(table["model"]) - {public}:
        raise WidthPruneError(
            f"{results_dir} holds this study of {other.pop()}, not of {public}: name another directory of results"
        )
    return table
