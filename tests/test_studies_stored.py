"""Studies on disk: made once, whole or not at all, and a damaged file is named in one line."""

import ast
import errno
import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from widthprune import WidthPruneError
from widthprune.studies.figures import plot_at_damage, plot_put_back, plot_shares
from widthprune.studies.growing import Recipe
from widthprune.studies.stored import AGAINST, STUDIES, StoredStudies, origin, provenance, stored, study
from widthprune.studies.study import run

NOTEBOOKS = sorted(Path(__file__).parents[1].glob("notebooks/*.ipynb"))
STUDY_CODE = sorted(Path(__file__).parents[1].glob("widthprune/studies/*.py"))
GROWN = [path for path in NOTEBOOKS if '"recipe = ' in path.read_text()]


def shares(seed=0, share=0.2):
    return pd.DataFrame([("gated", seed, 10.0, share, 0.1, 0.01)], columns=list(STUDIES["shares"]))


def keep(directory, recipe, share):
    """A stored table of a recipe's model, as `run` would store it."""
    made_by = asdict(recipe) | dict(steps=240 * recipe.epochs)
    study(directory, "shares", recipe.key, made_by, lambda: shares(recipe.seed, share))


def test_a_study_is_made_once_and_says_how(tmp_path):
    made = []
    for share in (0.2, 0.3):
        table = study(
            tmp_path, "shares", "m", dict(steps=7), lambda share=share: made.append(1) or shares(share=share)
        )
    assert len(made) == 1 and table["share"].tolist() == [0.2]
    said = provenance(tmp_path / "studies" / "shares-m.csv")
    assert said["steps"] == 7 and {"commit", "device", "duration_s"} <= set(said)
    assert "1 grown models, 7 steps each" in origin(tmp_path, "shares")


def test_a_study_that_was_made_in_another_way_is_no_answer(tmp_path):
    study(tmp_path, "shares", "m", dict(limit=7, pcts=(1.0, 5.0)), shares)
    study(tmp_path, "shares", "m", dict(limit=7, pcts=[1.0, 5.0]), shares, measure=False)
    with pytest.raises(WidthPruneError, match="shares-m.csv was made with limit 7, not None: name another"):
        study(tmp_path, "shares", "m", dict(limit=None), shares)


def test_a_study_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        study(tmp_path, "shares", "m", {}, lambda: 1 / 0)
    assert not list(tmp_path.rglob("*.csv")) and stored(tmp_path, "shares").empty


def test_models_of_the_commonest_training_are_read_alone(tmp_path):
    """Few larger models that took longer do not displace those that verdicts rest on."""
    kept = []
    for name, steps, share in (("a", 9, 0.9), ("b", 5, 0.5), ("c", 9, 0.8), ("d", 12, 0.1)):
        study(tmp_path, "shares", name, dict(steps=steps), lambda share=share: shares(share=share))
        kept.append(stored(tmp_path, "shares")["share"].tolist())
    assert kept == [[0.9], [0.9], [0.9, 0.8], [0.9, 0.8]]
    studies = StoredStudies(tmp_path)
    assert {name: len(table) for name, table in studies.items() if len(table)} == {"shares": 2}
    assert studies["shares"] is studies["shares"] and "another" not in studies
    assert origin(tmp_path / "nowhere", "shares") == "not measured here"


def test_models_of_another_size_are_read_where_they_are_asked_for(tmp_path):
    small, large = Recipe(), Recipe(hidden_size=240, neurons=640)
    for recipe, seed, share in ((small, 0, 0.2), (small, 1, 0.3), (large, 0, 0.7)):
        keep(tmp_path, Recipe(seed=seed, **recipe.shared), share)
    assert stored(tmp_path, "shares")["share"].tolist() == [0.2, 0.3]
    assert stored(tmp_path, "shares", **small.shared)["share"].tolist() == [0.2, 0.3]
    assert stored(tmp_path, "shares", **large.shared)["share"].tolist() == [0.7]
    assert stored(tmp_path, "shares", hidden_size=7).empty
    for size, count in (({}, 2), (large.shared, 1), (dict(hidden_size=240), 1)):
        assert f"{count} grown models, 480 steps each" in origin(tmp_path, "shares", **size)
    assert origin(tmp_path, "shares", hidden_size=7) == "not measured here"


@pytest.mark.parametrize("changed", [dict(neurons=512), dict(epochs=1), dict(rate=2e-3), dict(sentences=500)])
def test_models_of_another_recipe_are_read_where_they_are_asked_for(changed, tmp_path):
    """However many lie beside them, and whichever were trained longer."""
    for seed in range(3):
        keep(tmp_path, Recipe(seed=seed), 0.2)
    asked = Recipe(seed=1, **changed)
    keep(tmp_path, asked, 0.7)
    assert stored(tmp_path, "shares", **asked.shared)["share"].tolist() == [0.7]
    assert stored(tmp_path, "shares", **Recipe().shared)["share"].tolist() == [0.2] * 3
    assert origin(tmp_path, "shares", **asked.shared).startswith("Measured: 1 grown models")


# Parameter that is named -> what is given.
REFUSED = [
    *(("seeds", {"seeds": value}) for value in ([], [0, 0], 0, "01", [-1], [0.5])),
    *(("recipe", {"recipe": value}) for value in ("small", {"hiden_size": 24}, {"seed": 1})),
    ("hidden_size", {"recipe": {"hidden_size": "24"}}),
    *(("model", {"model": value}) for value in ("glu", ["gated"])),
    *(("larger_seeds", {"larger_seeds": value}) for value in ([0, 0], 1)),
    *(("larger", {"larger": value}) for value in ("big", {"hiden_size": 24})),
]


def code_cells(path):
    """The parameters of a chapter and what comes after them, as text; the first cell installs."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    return ["".join(line for line in cell["source"] if line[:1] != "%") for cell in cells[1:]]


def has(path, given):
    return all(re.search(rf"^{name} = ", code_cells(path)[0], re.MULTILINE) for name in given)


@pytest.mark.parametrize(
    ("path", "named", "given"),
    [(path, *refused) for path in GROWN for refused in REFUSED if has(path, refused[1])],
    ids=lambda value: value.stem if isinstance(value, Path) else str(value),
)
def test_a_chapter_names_the_parameter_that_cannot_be_followed(path, named, given, tmp_path):
    parameters, *others = code_cells(path)
    namespace = {}
    exec(parameters, namespace)
    namespace |= {"results_dir": tmp_path, "models_dir": tmp_path, "measure": False} | given
    with pytest.raises(WidthPruneError, match=f"^{named} must ") as error:
        for cell in others:
            exec(cell, namespace)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", GROWN, ids=lambda path: path.stem)
def test_a_chapter_reads_the_models_of_its_own_recipe(path):
    cells = [cell["source"] for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    lines = [line.rstrip("\n") for cell in cells for line in cell if not line.lstrip().startswith("%")]
    calls = [node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.Call)]
    reads = [call for call in calls if getattr(call.func, "id", "") in ("stored", "origin")]
    assert reads
    assert [ast.unparse(call) for call in reads if None not in {word.arg for word in call.keywords}] == []


# What a message asks for: what an argument must be, or what to do.
REMEDY = r"\bmust\b|: (add|choose|compare|copy|delete|give|leave|name|remove|run|select|set)\b"


@pytest.mark.parametrize("path", STUDY_CODE, ids=lambda path: path.stem)
def test_every_message_says_what_to_do(path):
    made = [
        node.args[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "WidthPruneError"
    ]
    assert [text for text in map(ast.unparse, made) if not re.search(REMEDY, text)] == []


def test_what_may_not_be_measured_is_named_before_anything_is_grown(tmp_path):
    with pytest.raises(WidthPruneError, match="removal-grown-plain-3.csv is not there") as error:
        run([Recipe("plain", 3)], tmp_path / "models", tmp_path, measure=False)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        *("", "# {}\na,b\n1,2\n", "# {}\nkind,seed\n", "\x00"),
        f"# {{}}\nkind,seed,pruning_pct,share,random,random_sd\ngated,{10**30},1,1,1,1\n",
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, text):
    path = tmp_path / "studies" / "shares-m.csv"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(WidthPruneError, match="shares-m.csv is damaged .*: delete it") as error:
        stored(tmp_path, "shares")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        *({"n": value} for value in (1.5, -1)),
        *({"value": value} for value in ("inf", "1e999")),
        *({"pruning_pct": value} for value in (200, -5, "")),
        *({column: "<b>" for column in (name,)} for name in ("model", "measure", "set", "criterion")),
        {"stderr": -1},
        {"n": "3,4"},  # a field more than there are columns
        {},  # the same row twice
    ],
    ids=str,
)
def test_a_damaged_row_is_named_in_one_line(tmp_path, changes):
    sound = ("m", "share", "cities", "PPM", 0, 10.0, 0.2, 0.1, 3)
    row = dict(zip(STUDIES["integrated"], sound, strict=True))
    path = tmp_path / "studies" / "integrated-m.csv"
    path.parent.mkdir()
    others = [dict(row, **changes)] if "n" in changes else [row, dict(row, **{"set": "bigbench"} | changes)]
    others = [row, row] if not changes else others
    body = "\n".join(",".join(map(str, own.values())) for own in others)
    path.write_text(f"# {{}}\n{','.join(row)}\n{body}\n")
    with pytest.raises(WidthPruneError, match="integrated-m.csv is damaged .*: delete it") as error:
        stored(tmp_path, "integrated")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("metric", ["word_perplexity", "acc", "width", "changed", *AGAINST.values()])
@pytest.mark.parametrize("value", [0.5, 1.5, float("inf"), float("-inf")])
def test_a_value_is_what_its_metric_can_be(tmp_path, metric, value):
    possible = {"word_perplexity": {1.5, np.inf}, "acc": {0.5}} | dict.fromkeys(
        ("width", "changed"), {0.5, 1.5}
    )
    texts = dict.fromkeys(("model", "removed", "task"), "m") | dict(metric=metric, value=value)
    rows = pd.DataFrame([{name: texts.get(name, 1) for name in STUDIES["amp_heads"]}])

    def kept():
        return study(tmp_path, "amp_heads", "m", {}, lambda: rows)["value"].tolist()

    if value in possible.get(metric, {value}):
        assert kept() == [value]
    else:
        with pytest.raises(WidthPruneError, match=f"damaged .value cannot be {value}.: "):
            kept()


def test_what_could_not_be_read_again_is_refused_before_it_is_made(tmp_path):
    for asked in (dict(limit=2 * 10**9), dict(steps=0), dict(dtype="<b>")):
        with pytest.raises(
            WidthPruneError, match=f"^shares cannot be made and kept: choose another value, {[*asked][0]}: "
        ):
            study(tmp_path, "shares", "m", asked, lambda: 1 / 0)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_in_the_end_is_named(tmp_path, monkeypatch):
    def full(path, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("widthprune.studies.stored.write_atomically", full)
    with pytest.raises(
        WidthPruneError, match="shares-m.csv cannot be written .No space left on device.: name"
    ):
        study(tmp_path, "shares", "m", {}, shares)


SOUND = dict(kind="gated", seed=0, steps=7, limit=None, dtype="float32", device="cpu: A", commit="12")
LINES = [
    "[]",
    '[["steps", 1]]',
    "7",
    "null",
    "[" * 100_000,
    '{"a": ' * 100_000,
    *(
        json.dumps(SOUND | {field: value})
        for field, values in {
            "steps": ([7], {}, "7", 7.5, True, None, 0, float("nan"), float("inf"), 10**400),
            "hidden_size": ({}, [96], "96"),
            "neurons": ({}, None),
            "limit": ([7], "all", -1),
            "seed": ({}, "0"),
            "dtype": (["float32"], 7, "<b>"),
            "device": ({}, 7, "<script>", "\ud800", "a\nb"),
            "commit": ([], 7, "<b>"),
        }.items()
        for value in values
    ),
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[-60:])
def test_an_odd_first_line_is_named_in_one_line(tmp_path, line):
    keep(tmp_path, Recipe(), 0.2)
    path = tmp_path / "studies" / "shares-m.csv"
    path.write_text(f"# {line}\n{shares().to_csv(index=False)}")
    for read in (
        lambda: stored(tmp_path, "shares"),
        lambda: origin(tmp_path, "shares"),
        lambda: study(tmp_path, "shares", "m", dict(steps=7), shares),
    ):
        with pytest.raises(
            WidthPruneError, match="shares-m.csv is damaged .*: delete it and run the study again$"
        ) as e:
            read()
        assert str(e.value).isprintable() and len(str(e.value)) < 600


@pytest.mark.parametrize("lacking", SOUND)
@pytest.mark.parametrize("study_name", ["shares", "slicegpt"])
def test_a_first_line_may_lack_any_field(tmp_path, lacking, study_name):
    said = {key: value for key, value in SOUND.items() if key != lacking}
    if study_name == "slicegpt":
        said.pop("steps", None)
    path = tmp_path / "studies" / f"{study_name}-m.csv"
    path.parent.mkdir()
    path.write_text(f"# {json.dumps(said)}\n{','.join(STUDIES[study_name])}\n")
    assert stored(tmp_path, study_name).empty
    assert origin(tmp_path, study_name).startswith("Measured: ") and "None" not in origin(
        tmp_path, study_name
    )


@pytest.mark.parametrize("place", ["results", "results/studies"])
def test_a_results_folder_that_is_a_file_is_named_in_one_line(place, tmp_path):
    results = tmp_path / "results"
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("")
    for ask in (
        lambda: stored(results, "shares"),
        lambda: origin(results, "shares"),
        lambda: study(results, "shares", "m", {}, lambda: 1 / 0),
        lambda: study(results, "shares", "m", {}, lambda: 1 / 0, measure=False),
    ):
        with pytest.raises(
            WidthPruneError, match=f"^results_dir must be a folder, and {tmp_path / place} is"
        ):
            ask()


@pytest.mark.parametrize("results", [None, 7, ["results"]])
def test_a_results_folder_that_is_no_path_is_named_in_one_line(results):
    with pytest.raises(WidthPruneError, match="^results_dir must be a path, got "):
        stored(results, "shares")


def test_a_folder_that_cannot_be_written_is_named_before_the_work(tmp_path):
    (tmp_path / "results").symlink_to(tmp_path / "nowhere")
    with pytest.raises(WidthPruneError, match="^results_dir must be a folder that can be written: .*results"):
        study(tmp_path / "results", "shares", "m", {}, lambda: 1 / 0)


def test_figures_draw_a_line_for_each_thing_named():
    rows = [
        (
            "gated",
            seed,
            "base",
            name,
            0,
            pct,
            measure,
            2 + pct / 100 if measure == "prose" else 1 - pct / 100,
            0.1,
            9,
        )
        for seed in (0, 1)
        for name, pct in (("none", 0.0), *((c, p) for c in ("PPM", "RANDOM") for p in (10.0, 20.0, 30.0)))
        for measure in ("prose", "known")
    ]
    table = pd.DataFrame(rows, columns=list(STUDIES["removal"]))
    ax = plot_at_damage(table, "known", ["PPM", "RANDOM"], label="facts known")
    assert [line.get_label() for line in ax.lines] == ["PPM", "RANDOM"] and ax.get_ylabel() == "facts known"
    # Where no criterion did more damage the line ends.
    assert ax.lines[0].get_ydata()[5] == pytest.approx(0.75) and pd.isna(ax.lines[0].get_ydata()[7])
    ax = plot_shares(pd.concat([shares(), shares(1, 0.3)]))
    assert ax.lines[0].get_ydata().tolist() == [0.25]
    causal = pd.DataFrame(
        [
            ("gated", 0, name, "PPM", 0, 10.0, "instructions", 0.5, 0.1, 9)
            for name in ("kept", "random", "everything")
        ],
        columns=list(STUDIES["causal"]),
    )
    ax = plot_put_back(causal, "instructions", ("kept", "not random"))
    names = ["into kept", "into not random", "everything", "nothing", "base"]
    assert [line.get_label() for line in ax.lines] == names


@pytest.fixture(autouse=True)
def closed():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def test_what_shows_stored_results_imports_no_torch():
    """The imports of every chapter that shows no live model: torch and what comes with it take longer than the chapter."""
    shows = [path for path in NOTEBOOKS if path.stem != "01_architecture"]
    cells = [cell for path in shows for cell in json.loads(path.read_text())["cells"]]
    imports = ["".join(c["source"]) for c in cells if "InlineBackend.figure_formats" in "".join(c["source"])]
    assert len(imports) == len(shows)
    code = "\n".join(line for text in imports for line in text.splitlines() if line[:1] != "%")
    code += "\nimport sys; print({'torch', 'transformers', 'lm_eval', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
