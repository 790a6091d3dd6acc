"""The schema of a results file: each field that may be there with its type and range; all else is refused.

A new field is a line in `Settings`, `ProfileSettings` or `Provenance`, a new number a line in ``RANGES``.
Strings are one short line of plain characters, so that no file can carry markup into a page, and a model
is named, never by a path of somebody's machine.
"""

import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from .escaping import as_line

VERSION = 1
NOT_FINITE = ("nan", "inf", "-inf")  # JSON has no number for these
# Letters and marks by their category, and shown as nothing (Unicode's Default_Ignorable_Code_Point).
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
SLACK = 1e-6  # rounding: a probability of 1 may be summed up to a little more


def _text(pattern: str, most: int):
    return Annotated[str, StringConstraints(pattern=f"^{pattern}$", max_length=most)]


def _named_or_finite(value):
    """The number that one of the three names stands for; a number itself must be finite."""
    if isinstance(value, str) and value in NOT_FINITE:
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be finite, or the text {', '.join(NOT_FINITE)}")
    return value


def _sources(text: str) -> str:
    try:
        _SOURCES.validate_json(text)
    except ValidationError:
        raise ValueError("must be JSON with plain text for cpu, gpu and ram") from None
    return text


def _not_blank(text: str) -> str:
    if text != text.strip():
        raise ValueError("must not begin or end with a space")
    if _UNSEEN.search(text):
        raise ValueError("must hold no character that nobody sees, by which two names could look alike")
    return text


# Names have none of the characters that HTML, Markdown or a path give a meaning to.
Name = _text(r"[A-Za-z0-9_-]+", 64)
Version = _text(r"[A-Za-z0-9 ._:+@-]*", 120)
Plain = _text(r"[A-Za-z0-9 ._:,/()@+-]*", 200)
Model = _text(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)?(@[A-Za-z0-9._/-]+)?", 200)
MetricName = _text(r"[A-Za-z0-9_:.-]+", 100)
# Letters of any script, each with at most three marks above or below it.
Contributor = Annotated[
    _text(r"([\p{N} .,'’()-]\p{M}{0,3})*\p{L}\p{M}{0,3}([\p{L}\p{N} .,'’()-]\p{M}{0,3})*", 100),
    AfterValidator(_not_blank),
]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[Finite, Field(ge=0, le=1e9)]
Number = Annotated[float, BeforeValidator(_named_or_finite)]

_SOURCES = TypeAdapter(dict[Literal["cpu", "gpu", "ram"], Plain], config=ConfigDict(strict=True))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Shared(_Strict):
    """Settings that every run has, and some that it may have."""

    model: Model
    criterion: Name
    pruning_pct: Annotated[Finite, Field(ge=0, lt=100)]
    intermediate_size: Count
    expansion_ratio: Annotated[Finite, Field(gt=0, lt=100)]
    task: Name
    num_fewshot: Annotated[int, Field(ge=0, le=1000)]
    limit: Count | None
    seed: Seed
    dtype: _text(r"[A-Za-z0-9_.]+", 40)
    revision: Version = ""


SETTINGS = tuple(name for name, field in _Shared.model_fields.items() if field.is_required())


class Settings(_Shared):
    """What could change the numbers of a benchmark, or of diagnostics of its answers."""

    task_version: Version = ""
    data: Version = ""
    max_length: Count | None = None
    chat_template: Literal[True] = True
    backend: Literal["stock", "vllm"] = "vllm"
    neuron_seed: Seed = 0
    calibration: Version = ""
    calibration_sequences: Count = 1
    calibration_length: Count = 1
    calibration_seed: Seed = 0
    diagnostics: Count = 1


class ProfileSettings(_Shared):
    """What could change the numbers of a profile."""

    limit: Count
    protocol: Literal["free", "fixed"]
    batch_size: Count
    max_new_tokens: Count
    multiple_of: Count
    weights: Literal["trained", "random"]
    threads: Count
    device: Plain
    energy: bool


class Metric(_Strict):
    """One number, its standard error, and the items behind it."""

    metric: MetricName
    value: Number
    stderr: Annotated[Finite, Field(ge=0)] | None
    n: Count | None


METRIC_FIELDS = tuple(Metric.model_fields)


class Provenance(_Strict):
    """Where and when; a result may lack any of it, and `widthprune check` says what it may not lack."""

    started: Version = ""
    duration_s: Seconds = 0
    commit: _text(r"[0-9a-z]*(\+dirty)?", 80) = ""
    device: Plain = ""
    threads: Count = 1
    python: Version = ""
    packages: Annotated[dict[Name, Version], Field(max_length=100)] = {}
    compute_dtype: _text(r"[A-Za-z0-9_.]*", 40) = ""
    weights_format: Plain = ""
    engine: Literal["prefix", "stock", "vllm"] = "prefix"
    clock_mhz: Annotated[Finite, Field(ge=0, le=1e6)] | None = None
    # The energy's sources are JSON within JSON: its own characters, and then its values.
    sources: Annotated[_text(r'[A-Za-z0-9 ._:,/()@+{}"-]*', 1000), AfterValidator(_sources)] = ""
    contributor: Contributor = ""


class Run(_Strict):
    """A file of a benchmark or of diagnostics."""

    version: Annotated[int, Field(alias="schema", ge=VERSION, le=VERSION)]
    settings: Settings
    metrics: Annotated[list[Metric], Field(min_length=1, max_length=1000)]
    provenance: Provenance


class Profile(Run):
    """A file of times and energy."""

    settings: ProfileSettings


INF = math.inf
# By kind of run: the metric's name, and the smallest and largest value it can have. Only where the largest is
# infinite may a value be.
RANGES = {
    "benchmark": {
        r"acc(_norm)?|exact_match(_strict|_flexible)?|(prompt|inst)_level_(strict|loose)_acc": (0, 1),
        r"((word|byte)_)?perplexity": (1, INF),
        r"bits_per_byte": (0, INF),
    },
    "diagnostics": {
        r"distinct_[12]|empty|share_.+|answer_entropy|shortest_chosen|ece|confidence|flip_rate|mcnemar_p": (
            0,
            1,
        ),
        r"(clustered|change)_stderr": (0, 1),
        r"words": (0, 1e6),
        r"word_entropy": (0, 64),  # bits
        r"kl_to_unpruned": (0, 1e6),  # nats
        r"log10_mass_(true|false)": (-1e6, 3),
    },
    "profile": {
        r"(ttft_ms|ttlt_ms|ms_per_token)_(mean|p5|p50|p95)|limit_ms_per_token": (2 * SLACK, 1e9),  # above 0
        r"(ttft_ms|ttlt_ms|ms_per_token|steps)_sd": (0, 1e9),
        r"steps_(mean|p5|p50|p95)|new_tokens": (1, 1e9),
        r"throughput_tok_s|energy_window_s|read_bandwidth_gb_s": (2 * SLACK, 1e9),
        r"(model_size|peak_memory)_gib": (0, 1e6),
        r"gross_j_(cpu|gpu|ram|total|per_token)|idle_w_(cpu|gpu|ram)": (0, 1e12),
        r"net_j_(cpu|gpu|ram|total|per_token)": (-1e12, 1e12),
    },
}
MAY_BE_NAN = {"benchmark"}


def kind_of(settings: Mapping) -> str:
    """Which of ``RANGES`` a run's numbers belong to, by what only such a run's settings name."""
    if "protocol" in settings:
        return "profile"
    return "diagnostics" if "diagnostics" in settings else "benchmark"


@lru_cache(maxsize=10_000)
def metric_range(kind: str, name: str) -> tuple[float, float] | None:
    """Smallest and largest value of a metric in runs of a kind; None if no such run has it."""
    found = (limits for pattern, limits in RANGES[kind].items() if re.fullmatch(pattern, name))
    return next(found, None)


def wrong_fields(run: object) -> list[str]:
    """A line for each field of a results file, read as JSON, that the schema refuses; it names the field.

    A metric that no table of ``RANGES`` knows is let through: a later lm-eval may report more of them.
    """
    settings = run.get("settings") if isinstance(run, dict) else None
    kind = kind_of(settings) if isinstance(settings, dict) else "benchmark"
    if wrong := refused(Profile if kind == "profile" else Run, run):
        return wrong
    return [what for i, row in enumerate(run["metrics"]) for what in _wrong_value(kind, i, row)]


def wrong_settings(settings: Mapping) -> list[str]:
    """The same for the settings alone, before there is a result."""
    return refused(ProfileSettings if kind_of(settings) == "profile" else Settings, dict(settings))


def wrong_contributor(name: str) -> list[str]:
    """The same for the name of who measured."""
    return refused(TypeAdapter(Contributor), name)


def _wrong_value(kind: str, i: int, row: Mapping) -> Iterator[str]:
    name, value = row["metric"], float(row["value"])
    limits = metric_range(kind, name)
    if limits is None:
        if owner := next((other for other in RANGES if metric_range(other, name)), None):
            yield f"metrics.{i}.metric: {name} belongs to runs of kind {owner}, and this is of kind {kind}"
    elif math.isnan(value):
        if kind not in MAY_BE_NAN:
            yield f"metrics.{i}.value: {name} must be a number, got nan"
    elif not within(value, limits):
        yield f"metrics.{i}.value: {name} must be from {limits[0]:g} to {limits[1]:g}, got {value:g}"


def within(value: float, limits: tuple[float, float]) -> bool:
    """Whether a value is within what `metric_range` gives, but for rounding."""
    return limits[0] - SLACK <= value <= limits[1] + SLACK


def refused(schema, value) -> list[str]:
    """A line for each field that a schema refuses; it names the field."""
    validate = schema.validate_python if isinstance(schema, TypeAdapter) else schema.model_validate
    try:
        validate(value)
    except ValidationError as error:
        return [_say(found) for found in error.errors(include_url=False)]
    return []


# What pydantic says in terms of patterns and classes, in terms of the file.
_SAID = {
    "extra_forbidden": "is no field of a results file",
    "missing": "is missing",
    "string_pattern_mismatch": "must be one line of plain characters, with no markup and no path",
    "model_type": "must be an object with named fields",
    "model_attributes_type": "must be an object with named fields",
}


def _say(error: Mapping) -> str:
    kind = error["type"]
    what = _SAID.get(kind) or re.sub(r"^(\w+ should|Value error, must)", "must", error["msg"])
    field = ".".join(str(part) for part in error["loc"]) or "the file"
    got = "" if kind in ("missing", "extra_forbidden") else f", got {_short(error['input'])}"
    return f"{as_line(field)[:120]}: {what}{got}"


def _short(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
