"""The book's build: notebooks are clean, parameters are checked, and what is broken is named."""

import ast
import json
import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import nullcontext
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
import yaml

from widthprune import CALIBRATED, load_results
from widthprune.audit.evidence import Evidence
from widthprune.audit.floors import load_floors
from widthprune.evaluation.grid import PAPER_PCTS
from widthprune.report.results import one_sweep
from widthprune.report.verdicts import OUTCOMES, collect
from widthprune.reruns.contributions import find_problems
from widthprune.reruns.notebooks import execute_notebook

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COMMON = {"model", "results_dir"}


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_source_notebook(path):
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert notebook.cells[0].source.startswith("# ") and "**The claim.**" in notebook.cells[0].source
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert set(papermill.inspect_notebook(str(path))) >= COMMON
    assert "ledger.show(" in code[-1].source
    # The first screen: the claim, the verdicts, the figure that carries them; all code above it is folded.
    cells = notebook.cells
    opens = next(i for i, cell in enumerate(cells) if "ledger.summary(" in cell.source)
    figure = next(i for i, cell in enumerate(cells) if "figure" in cell.metadata.get("mystnb", {}))
    assert opens < figure and all(cell.cell_type == "code" for cell in cells[opens : figure + 1])
    first = [cell for cell in cells[: figure + 1] if cell.cell_type == "code"]
    assert all(
        {"remove-cell", "hide-input", "hide-cell"} & set(cell.metadata.get("tags", [])) for cell in first
    )
    # A figure and nothing beside it: two outputs would be two figures of one name.
    drawn = [cell.source for cell in cells if "figure" in cell.metadata.get("mystnb", {})]
    assert all(
        source.rstrip().endswith(";") or not isinstance(ast.parse(source).body[-1], ast.Expr)
        for source in drawn
    )
    if "device" in papermill.inspect_notebook(str(path)):
        (parameters,) = [cell.source for cell in code if "parameters" in cell.metadata.get("tags", [])]
        assert "HF_TOKEN" in parameters and "licence" in parameters and "as long" in parameters
    address = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    assert f"git+{address}" in code[0].source
    # What it needs stands where it is opened, and leaves the first screen to the claim.
    assert re.search(r"takes .*GiB of memory; .*T4", code[0].source, re.DOTALL)
    assert len(notebook.cells[0].source.split("\n\n")) == 2  # title and claim


def test_every_notebook_is_in_the_book():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert [file for file in files if file.startswith("notebooks/")] == [
        f"notebooks/{p.stem}" for p in NOTEBOOKS
    ]


@pytest.mark.parametrize(
    ("model", "task"),
    [
        ("smollm2-135m-instruct", "wikitext"),
        ("gemma3-270m", "pocket_prose"),
    ],
)
def test_what_the_front_page_says_of_the_control(model, task):
    evidence = Evidence(load_results(ROOT / "results"), load_floors())
    assert evidence.better(model, task, "RANDOM", "PPM", 10).z > 2


@pytest.mark.parametrize("pct", [50, 60])
@pytest.mark.parametrize("model", ["smollm2-135m-instruct", "gemma3-270m"])
def test_what_the_front_page_says_of_the_control_at_high_percentages(model, pct):
    measured = load_results(ROOT / "results")
    table = one_sweep(measured)
    table = table[(table["model"] == model) & (table["pruning_pct"] == pct)]
    prose = table[(table["task"] == "pocket_prose") & (table["metric"] == "word_perplexity")]
    draws = prose.loc[prose["criterion"] == "RANDOM", "value"]
    assert len(draws) == 3 and prose.loc[prose["criterion"] == "PPM", "value"].item() < draws.min()
    evidence = Evidence(measured, load_floors())
    ppm, random = (evidence.shift(model, "pocket_facts", name, pct) for name in ("PPM", "RANDOM"))
    assert abs(ppm.change - random.change) < 2 * (ppm.stderr**2 + random.stderr**2) ** 0.5


def test_what_the_front_page_says_of_empty_answers():
    evidence = Evidence(load_results(ROOT / "results"), load_floors())
    small, never = "smollm2-135m-instruct", "random-smollm2-135m-instruct"
    assert 0.4 < evidence.measured(small, "ifeval", "none", 0, "empty") < 0.5
    assert all(evidence.measured(small, "ifeval", "PPM", pct, "empty") == 0 for pct in PAPER_PCTS[1:])
    assert evidence.measured(never, "ifeval", "none", 0) >= evidence.measured(small, "ifeval", "none", 0)


def test_what_the_front_page_says_of_the_chat_template():
    evidence = Evidence(load_results(ROOT / "results"), load_floors())

    def in_template(task, pct, metric=None, criterion="PPM"):
        criterion = criterion if pct else "none"
        return evidence.measured("smollm2-135m-instruct", task, criterion, pct, metric, chat_template=True)

    assert in_template("ifeval", 0, "empty") == in_template("pocket_instructions", 0, "empty") == 0
    for task, n in (("ifeval", 200), ("pocket_instructions", 120)):
        whole = n * in_template(task, 0)
        assert in_template(task, 0) < evidence.floor(task, "prompt echoed 8 times")
        # As much is taken by lot: no fewer by two standard errors under the criterion.
        assert in_template(task, 40, "mcnemar_p", "RANDOM") < 0.05
        error = (whole / n * (1 - whole / n) / n) ** 0.5
        assert in_template(task, 40) > in_template(task, 40, criterion="RANDOM") - 2 * error
    p_values = {
        (task, pct): in_template(task, pct, "mcnemar_p")
        for task in ("ifeval", "pocket_instructions")
        for pct in PAPER_PCTS[1:]
    }
    # Each is significant, that of IFEval at 10% barely.
    assert 0.01 < p_values.pop(("ifeval", 10)) < 0.05 and max(p_values.values()) < 0.01
    made = ["detectable_format:title", "detectable_content:postscript", "detectable_format:multiple_sections"]
    for kind in made:
        assert in_template("ifeval", 0, f"share_{kind}") > 0.6
        assert all(in_template("ifeval", pct, f"share_{kind}") == 0 for pct in PAPER_PCTS[1:])


def test_what_the_front_page_says_of_ifeval_on_a_base_model():
    evidence = Evidence(load_results(ROOT / "results"), load_floors())
    scores = {pct: evidence.measured("gemma3-270m", "ifeval", "PPM", pct) for pct in PAPER_PCTS[1:]}
    assert max(scores.values()) < evidence.measured("gemma3-270m", "ifeval", "none", 0)


@pytest.fixture(scope="session")
def colab(tmp_path_factory):
    """Where a Python looks for packages that has everything but this one, the wheel of this one, and its kernel."""
    base = tmp_path_factory.mktemp("colab")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", base / "dist", copy_of_sources(base)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = (base / "dist").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", base / "venv"], check=True)
    (site,) = (base / "venv").glob("lib/python*/site-packages")
    # Links to all that is installed here except the package itself, whose absence is the point.
    others = base / "others"
    others.mkdir()
    for entry in Path(pytest.__file__).parent.parent.iterdir():
        if "widthprune" not in entry.name and not entry.name.endswith((".pth", ".egg-link")):
            (others / entry.name).symlink_to(entry)
    (site / "others.pth").write_text(f"{others}\n")
    python = str(base / "venv" / "bin" / "python")
    kernel = {"argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "it"}
    (base / "kernels" / "python3").mkdir(parents=True)
    (base / "kernels" / "python3" / "kernel.json").write_text(json.dumps(kernel | {"language": "python"}))
    return site, wheel, base


def copy_of_sources(base):
    # setuptools writes a build folder beside the sources.
    target = base / "sources"
    shutil.copytree(ROOT / "widthprune", target / "widthprune")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    return target


def installs(path):
    """What the first cell does, below what it says."""
    source = next(cell.source for cell in read(path).cells if cell.cell_type == "code")
    return source[source.index("import os") :]


# Of each way to install the first notebook that has it: the others would do the same again.
INSTALLING = list({installs(path): path for path in reversed(NOTEBOOKS)}.values())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_alone(path, colab, chat_model, tmp_path, monkeypatch):
    """From an empty directory the first cell installs, and every cell runs; with a tiny model, whose numbers mean nothing."""
    site, wheel, kernels = colab
    for installed in site.glob("widthprune*"):
        shutil.rmtree(installed)
    if path not in INSTALLING:
        shutil.unpack_archive(wheel, site, "zip")
    least = yaml.safe_load((ROOT / "tests" / "alone.yml").read_text()).get(path.stem, {})
    if "device" in papermill.inspect_notebook(str(path)):
        least = {"model": chat_model} | least
    for name, value in {"WIDTHPRUNE_SPEC": wheel, "PIP_NO_DEPS": "1", "JUPYTER_PATH": kernels}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("WIDTHPRUNE_DATA", "PYTHONPATH"):  # by the second the sources would be found
        monkeypatch.delenv(name, raising=False)
    execute_notebook(path, tmp_path / "out.ipynb", least, cwd=tmp_path)
    assert (site / "widthprune").is_dir()
    found = collect(json.loads((tmp_path / "out.ipynb").read_text()))
    assert found and all(one.outcome in OUTCOMES for one in found)
    # What was measured can be downloaded and contributed as it is.
    if any((tmp_path / "results").rglob("*.json")):
        assert find_problems(tmp_path / "results")[0] == []


def build(root, *arguments):
    return subprocess.run(
        [sys.executable, str(root / "book" / "build.py"), *arguments], capture_output=True, text=True
    )


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A book of one tiny notebook and few results, built, and what the build said."""
    root = tmp_path_factory.mktemp("book") / "project"
    for name in ("book", "widthprune", "results/random-smollm2-135m-instruct"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_config.yml", "results/README.md"):
        shutil.copy(ROOT / name, root / name)
    for page in (root / "book").glob("*.md"):
        page.unlink()
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/start\nchapters:\n- file: notebooks/tiny\n")
    (root / "book" / "start.md").write_text("# Start\n\n```{include} ledger.md\n```\n")
    # The true ones are of notebooks, pages and results that are not here.
    (root / "book" / "parameters.yml").write_text("{}")
    (root / "book" / "numbers.yml").write_text("{}")
    write_tiny(root, "x = 1\nmeasure = True", FIGURE)
    return root, build(root)


@pytest.fixture
def small_book(built, tmp_path):
    """The same in a place where it may be broken; what was executed is still there."""
    return shutil.copytree(built[0], tmp_path / "project")


FIGURE = """%config InlineBackend.figure_formats = ["svg"]
import matplotlib.pyplot as plt, pandas as pd
from widthprune.report.drawn import keep_rows
rows = pd.DataFrame({"model": ["one", "<b>"], "value": [1.5, 2.25]})
keep_rows(plt.gca(), rows, task="tiny")
plt.plot(rows["value"]);"""


def write_tiny(root, parameters, source="pass"):
    cells = [nbformat.v4.new_markdown_cell("# Tiny"), *map(nbformat.v4.new_code_cell, (parameters, source))]
    cells[1].metadata["tags"] = ["parameters"]
    cells[2].metadata["mystnb"] = {"figure": {"name": "fig-tiny", "caption": "Tiny."}}
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, root / "notebooks" / "tiny.ipynb")


def pages(root):
    return root / "_build" / "html"


def test_a_book_is_built_with_a_line_for_each_chapter(built):
    root, first = built
    page = pages(root) / "index.html"
    assert first.returncode == 0 and page.exists(), first.stderr
    said = first.stdout.splitlines()
    assert re.fullmatch(r"book: tiny took \d+ s", said[0]) and said[-1] == str(page) and len(said) == 3
    assert first.stderr == ""
    # The front page holds the ledger, and its data lie beside the pages.
    assert "class='ledger'" in (page.parent / "book" / "start.html").read_text()
    assert len(json.loads((page.parent / "claims.json").read_text())) >= 30


def test_a_figure_is_downloaded_as_it_is_shown(built):
    """Its picture, and the rows it was drawn from, below it and in the archive."""
    html = pages(built[0])
    page = (html / "notebooks" / "tiny.html").read_text()
    links = dict(re.findall(r'href="(\.\./figures/fig-tiny\.(?:svg|csv))" download>([\w ]+)<', page))
    assert list(links.values()) == ["This figure as SVG", "its rows as CSV"]
    (shown,) = re.findall(r'src="(\.\./_images/\w+\.svg)"', page)
    picture, rows = ((html / "notebooks" / link).read_bytes() for link in links)
    assert picture == (html / "notebooks" / shown).read_bytes()
    assert rows.decode() == "model,value,task\none,1.5,tiny\n<b>,2.25,tiny\n"
    with zipfile.ZipFile(html / "widthprune-data.zip") as archive:
        assert [archive.read(f"figures/fig-tiny.{kind}") for kind in ("svg", "csv")] == [picture, rows]


@pytest.mark.parametrize(
    ("file", "ran"),
    [
        ("notebooks/README.md", False),
        ("notebooks/tiny.ipynb", True),
        ("widthprune/errors.py", True),
        ("_build/stage/results/new.json", True),
        ("book/parameters.yml", True),
    ],
)
def test_only_what_changed_runs_again(built, tmp_path, file, ran, monkeypatch, capsys):
    root = tmp_path / "project"
    shutil.copytree(built[0], root, ignore=shutil.ignore_patterns("html"))
    (root / file).write_text("tiny: {x: 2}" if file.endswith("yml") else (root / file).read_text() + " "
                             if (root / file).exists() else "new")  # fmt: skip
    monkeypatch.syspath_prepend(ROOT / "book")
    import execute

    def start(source, *parts):
        raise ChildProcessError(f"{source.stem} runs")

    monkeypatch.setattr(execute, "ROOT", root)
    monkeypatch.setattr(execute, "_start", start)
    sources = [root / "notebooks" / "tiny.ipynb"]
    parameters = execute.read_parameters(sources, root / "book" / "parameters.yml", measure=False)
    with pytest.raises(ChildProcessError, match="tiny runs") if ran else nullcontext():
        execute.execute_all(sources, parameters, root / "_build" / "stage", 1)
    assert capsys.readouterr().out == ("" if ran else "book: tiny is up to date\n")


ASKS = """from widthprune.evaluation.stored import stored_or_measured
assert not measure, "it may measure"
stored_or_measured("smollm2-135m-instruct", "pocket_prose", measure=measure, criteria=["MAW"], pruning_pcts=[10])"""


@pytest.mark.parametrize("options", [[], ["--measure"]], ids=["as it is", "MEASURE=1"])
def test_a_missing_result_is_named_and_not_measured_unless_asked_for(small_book, options):
    """As the failure of a chapter, with its log; and there is no book."""
    write_tiny(small_book, "measure = True", ASKS)
    done = build(small_book, *options)
    assert done.returncode == 1 and not pages(small_book).exists()
    said, end = done.stderr.splitlines()
    named = re.fullmatch(r"book: tiny failed in cell \d+: (\w+): (.*); its log is (.*)", said)
    assert Path(named[3]).is_file() and end == "book: no book was built, because of tiny"
    if options:
        assert named.groups()[:2] == ("AssertionError", "it may measure")
    else:
        assert "pocket_prose of the unpruned model" in named[2] and "make book MEASURE=1" in named[2]
        assert "widthprune evaluate smollm2-135m-instruct --tasks pocket_prose" in named[2]


def test_make_hands_measure_on():
    def said(*words):
        command = ["make", "-n", "-o", ".venv/.installed", "book", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "book/build.py --measure" in said("MEASURE=1")
    assert "--measure" not in said() + said("MEASURE=0")


def test_chapters_measure_in_one_way_only():
    """Whatever takes minutes goes through functions that ask whether they may."""
    asking = {
        "stored_or_measured",
        "never_trained",
        "described",
        "misconceptions",
        "slicegpt",
        "amp_heads",
        "run",
    }
    for path in NOTEBOOKS:
        source = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")
        plain = re.sub(r"^( *)%.*$", r"\1pass", source, flags=re.MULTILINE)
        calls = [node for node in ast.walk(ast.parse(plain)) if isinstance(node, ast.Call)]
        named = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
        computing = {"evaluate", "diagnose", "compute_floors", "random_initialised", "load_model"}
        # From weights alone, in seconds: the one model that every build reads.
        assert ("different_neurons" in named) == (path.stem == "02_criteria")
        assert not named & computing, f"{path.stem} calls {named & computing}"
        options = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id in asking]
        said = [{word.arg for word in call.keywords} for call in options]
        assert all({None, "measure"} & words for words in said), path.stem
        assert bool(options) == ("measure" in papermill.inspect_notebook(str(path)))
        assert not options or re.search(r"measure=measure[,)]", plain)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiny: {y: 3}", "tiny has no parameter y; it has x, measure"),
        ("tony: {x: 3}", "parameters.yml names tony, which is no notebook: tiny"),
    ],
)
def test_a_misspelt_parameter_is_refused(tmp_path, monkeypatch, text, message):
    monkeypatch.syspath_prepend(ROOT / "book")
    from execute import read_parameters

    write_tiny(tmp_path, "x = 1\nmeasure = True")
    sources, file = [tmp_path / "notebooks" / "tiny.ipynb"], tmp_path / "parameters.yml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_parameters(sources, file, measure=False)
    file.write_text("tiny: {x: 3}")
    assert read_parameters(sources, file, measure=False) == {"tiny": {"measure": False, "x": 3}}


def test_a_warning_in_a_page_fails_the_build(small_book):
    with (small_book / "book" / "start.md").open("a") as page:
        page.write("\n[broken](nowhere.md)\n")
    done = build(small_book)
    assert done.returncode == 1 and not pages(small_book).exists()
    assert "nowhere.md" in done.stderr


def test_a_page_that_asks_for_a_number_nobody_computes(small_book):
    with (small_book / "book" / "start.md").open("a") as page:
        page.write("\nAt {{ nothing }} of it.\n")
    done = build(small_book)
    assert done.returncode == 1 and not pages(small_book).exists()
    assert "book: error: start.md asks for nothing, which numbers.yml does not name" in done.stderr


def test_what_the_front_page_says_of_criteria_that_look_at_data():
    evidence = Evidence(load_results(ROOT / "results"), load_floors())
    for criterion in CALIBRATED:
        # Less than half as much again as the unpruned model, and better than PPM.
        change = evidence.shift("smollm2-135m-instruct", "pocket_prose", criterion, 10).change
        assert (
            -np.log(1.5) < change
            and evidence.better("smollm2-135m-instruct", "pocket_prose", criterion, "PPM", 10).z > 2
        )
