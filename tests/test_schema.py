"""The schema of results files: what is let in, what is not, and that nothing ends in a traceback."""

import json
import os
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from test_escaping import HOSTILE

from widthprune import WidthPruneError, load_results
from widthprune.report.escaping import as_line
from widthprune.report.results import load_profiles
from widthprune.report.runs import stored_path
from widthprune.report.schema import Profile, Provenance, Run, wrong_contributor, wrong_fields
from widthprune.reruns.contributions import find_problems

ROOT = Path(__file__).parent.parent
STORED = ROOT / "results" / "smollm2-135m-instruct"


def stored(pattern, kind):
    runs = (json.loads(path.read_text()) for path in sorted(STORED.glob(pattern)))
    return next(run for run in runs if kind(run["settings"]))


FILES = {
    "benchmark": stored("none-0pct-piqa-*", lambda it: "diagnostics" not in it),
    "perplexity": stored("none-0pct-wikitext-*", lambda it: True),
    "diagnostics": stored("none-0pct-piqa-*", lambda it: "diagnostics" in it),
    "profile": stored("none-0pct-mmlu_latency_b1-*", lambda it: True),
}


def changed(kind, *path, value):
    run = deepcopy(FILES[kind])
    holder = run
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    return run


def test_every_committed_file_is_let_in():
    runs = [json.loads(path.read_text()) for path in (ROOT / "results").rglob("*.json")]
    assert len(runs) > 1000 and not any(map(wrong_fields, runs))


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", FILES)
def test_no_string_holds_markup(kind, text):
    run = FILES[kind]
    places = [(part, name) for part in ("settings", "provenance") for name in run[part]]
    for part, name in [*places, ("provenance", "contributor")]:
        (wrong,) = wrong_fields(changed(kind, part, name, value=text))
        assert wrong.startswith(f"{part}.{name}: ") and wrong.isprintable()
    assert wrong_fields(changed(kind, "metrics", 0, "metric", value=text))
    assert wrong_fields(changed(kind, "provenance", "packages", value={text: "1"}))
    assert wrong_fields(changed(kind, "provenance", "sources", value=json.dumps({"cpu": text})))
    assert wrong_fields(changed(kind, text, value="new"))


REFUSED = {
    "share above 1": ("benchmark", ("metrics", 0, "value"), 99.0, "metrics.0.value: acc must be from 0 to 1, got 99"),
    "bytes": ("perplexity", ("metrics", 0, "value"), -3.0, "metrics.0.value: "),
    "diagnostics": ("diagnostics", ("metrics", 0, "value"), 99.0, "metrics.0.value: "),
    "kind": ("diagnostics", ("metrics", 0, "metric"), "acc", "acc belongs to runs of kind benchmark"),
    "profile": ("profile", ("metrics", 0, "value"), "nan", "metrics.0.value: "),
    "infinite share": ("benchmark", ("metrics", 0, "value"), "inf", "metrics.0.value: "),
    "a number as infinity": ("perplexity", ("metrics", 0, "value"), 1e999, "must be finite, or the text nan"),
    "text": ("benchmark", ("metrics", 0, "value"), "0.5", "metrics.0.value: must be a valid number, got '0.5'"),
    "large": ("benchmark", ("settings", "seed"), 10**30, "settings.seed: "),
    "larger": ("benchmark", ("metrics", 0, "n"), 10**30, "metrics.0.n: "),
    "negative": ("benchmark", ("settings", "limit"), -1, "settings.limit: "),
    "null": ("benchmark", ("settings", "pruning_pct"), None, "settings.pruning_pct: "),
    "list": ("benchmark", ("settings", "pruning_pct"), [1], "settings.pruning_pct: "),
    "nested": ("benchmark", ("settings", "revision"), {"a": {"b": 1}}, "settings.revision: "),
    "truth": ("benchmark", ("settings", "seed"), True, "settings.seed: "),
    "unknown": ("benchmark", ("settings", "note"), "x", "settings.note: is no field"),
    "unknown place": ("benchmark", ("provenance", "hostname"), "x", "provenance.hostname: is no field"),
    "path": ("benchmark", ("settings", "model"), "/home/me/model", "settings.model: must be"),
    "climbing path": ("benchmark", ("settings", "model"), "../model", "settings.model: must be"),
    "climbing task": ("benchmark", ("settings", "task"), "../../x", "settings.task: must be"),
    "no metrics": ("benchmark", ("metrics",), [], "metrics: "),
    "version": ("benchmark", ("schema",), True, "schema: "),
    "sources": ("profile", ("provenance", "sources"), '{"cpu": "a", "cpu": "<b>"}', "provenance.sources: "),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_field_is_refused_by_name(case):
    kind, path, value, message = REFUSED[case]
    (wrong,) = wrong_fields(changed(kind, *path, value=value))
    assert message in wrong and len(wrong) < 250


ALLOWED = [
    ("benchmark", ("settings", "model"), "org/name-1.5_b@refs/pr/1"),
    ("benchmark", ("provenance", "compute_dtype"), "float32"),
    ("benchmark", ("provenance", "weights_format"), "Q5_0, Q6_K, Q8_0, dequantized to bfloat16"),
    ("benchmark", ("provenance", "device"), "cpu: Intel(R) Core(TM) i7-8565U CPU @ 1.80GHz"),
    ("benchmark", ("provenance", "device"), "NVIDIA A100 80GB PCIe MIG 3g.40gb"),
    ("benchmark", ("provenance", "contributor"), "Zoë O’Neill-Łuk (Univ. of X), 李明"),
    ("perplexity", ("metrics", 0, "value"), "inf"),
    ("perplexity", ("metrics", 0, "metric"), "a_metric_of_a_later_version"),
    ("benchmark", ("metrics", 0, "value"), "nan"),
]


@pytest.mark.parametrize(("kind", "path", "value"), ALLOWED)
def test_what_is_coming_and_what_is_odd_is_let_in(kind, path, value):
    assert wrong_fields(changed(kind, *path, value=value)) == []


def test_the_name_of_who_measured():
    assert wrong_contributor("A. Name") == []
    assert all(map(wrong_contributor, ["", " ", "..", " A", "A\n", "<b>", "A" * 101, *HOSTILE]))
    # Marks piled on a letter would run over the lines above and below.
    assert wrong_contributor("A" + "\u0338" * 4) and wrong_contributor("\u0338A")
    assert wrong_contributor("שָׁלוֹם नमस्ते") == []


# Files made from the schema, and files that were measured, broken in every way.


def strategy(schema, definitions, name=""):
    """Values of a JSON schema, as pydantic writes it."""
    again = {"definitions": definitions}
    if "$ref" in schema:
        return strategy(definitions[schema["$ref"].split("/")[-1]], **again)
    if "anyOf" in schema:
        return st.one_of([strategy(one, name=name, **again) for one in schema["anyOf"]])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    if name in TEXTS:
        return TEXTS[name]
    low, high = schema.get("minimum"), schema.get("maximum", schema.get("exclusiveMaximum"))
    kinds = {
        "null": st.none(),
        "boolean": st.booleans(),
        "integer": st.integers(low, high),
        "number": st.floats(low, high, allow_nan=False, allow_infinity=False),
        "string": st.text("abc012", min_size=1, max_size=8),  # which every pattern allows
    }
    if schema["type"] == "array":
        return st.lists(strategy(schema["items"], **again), min_size=1, max_size=4)
    if schema["type"] == "object":
        fields = {key: strategy(one, name=key, **again) for key, one in schema.get("properties", {}).items()}
        must = {key: fields.pop(key) for key in schema.get("required", ())}
        return st.fixed_dictionaries(must, optional=fields)
    return kinds[schema["type"]]


TEXTS = {
    "contributor": st.sampled_from(["A. Name", "Zoë"]),
    "sources": st.just('{"cpu": "none"}'),
    "packages": st.just(FILES["benchmark"]["provenance"]["packages"]),
    "started": st.sampled_from(["2026-11-24T12:11:11+00:00", "2026", "yesterday"]),
    "metric": st.sampled_from([row["metric"] for run in FILES.values() for row in run["metrics"]] + ["x"]),
    "criterion": st.sampled_from(["none", "PPM", "RANDOM", "PPM-GLOBAL", "other"]),
    "task": st.sampled_from(["piqa", "wikitext", "mmlu", "ifeval", "mmlu_latency_b1", "other"]),
    "model": st.sampled_from(["org/tiny", "tiny", "x@y"]),
}


def made(schema):
    described = schema.model_json_schema()
    return strategy(described, described["$defs"])


JUNK = st.one_of(
    st.sampled_from(HOSTILE),
    st.sampled_from(
        [None, True, [], {}, -1, 0, 10**30, -(10**400), 1e308, 5e-324, -0.0, float("inf"), float("nan")]
    ),
    st.sampled_from(["nan", "inf", "-inf", "", "..", "/etc/passwd", "A" * 5000]),
    st.text(max_size=20),
    st.integers() | st.integers(1, 100),
    st.floats() | st.floats(0, 1),
    st.lists(st.dictionaries(st.text(max_size=3), st.none(), max_size=2), max_size=2),
)


MEASURED = st.sampled_from([*FILES.values()])
WHOLE = st.one_of(MEASURED, made(Run), made(Profile), MEASURED, MEASURED)


def places(value, path=()):
    """Every place in a file: the path to each object, list and value."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from places(one, (*path, key))


@st.composite
def files(draw):
    """The text of a file, and the settings that name it, if any do."""
    run = deepcopy(draw(WHOLE))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3]))):
        *path, last = draw(st.sampled_from([place for place in places(run) if place]))
        holder = run
        for part in path:
            holder = holder[part]
        how = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if how == "replace" or isinstance(holder, list):
            holder[last] = draw(JUNK)
        elif how == "remove":
            del holder[last]
        else:
            holder[draw(st.sampled_from(["note", "__proto__", *HOSTILE, *Provenance.model_fields]))] = draw(
                JUNK
            )
        if not run:
            break
    text = json.dumps(run)
    if draw(st.integers(0, 9)) == 7:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(["", "[" * 5000, "\ud7ff", "NaN", "}", "\x00", '"'])) + text[at + draw(st.integers(0, 9)) :]  # fmt: skip
    return text, run.get("settings")


@settings(
    max_examples=int(os.environ.get("WIDTHPRUNE_FUZZ", 200)),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(files())
def test_fuzz_nothing_ends_in_a_traceback_or_is_accepted_and_then_refused(tmp_path_factory, made):
    text, named = made
    root = tmp_path_factory.mktemp("fuzz")
    try:
        path = stored_path(root, named)
        # Hidden files are passed over.
        assert path.parent.parent == root and path.name[0] != "."
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    except Exception:  # no settings that could name a file
        path = root / "m" / "x.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    problems, _ = find_problems(root)
    assert all(str(problem).isprintable() and str(problem).startswith(as_line(path)) for problem in problems)
    read = True
    try:
        rows = len(load_results(root)) + len(load_profiles(root))
        assert rows > 0
    except WidthPruneError as error:
        read = False
        assert str(error).isprintable() and as_line(path) in str(error)
    event("accepted" if not problems else "loaded, refused by check" if read else "refused")
    assert read or problems
