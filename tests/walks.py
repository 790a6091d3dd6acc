"""Walks with a model's name through what takes one: notebooks up to their first measurement, the steps of a rerun."""

import contextlib
import os
from pathlib import Path

import nbformat

from widthprune.evaluation.evaluate import evaluate
from widthprune.report.tasks import SUITES
from widthprune.reruns import steps
from widthprune.reruns.plan import Request, make_plan
from widthprune.reruns.records import write_plan
from widthprune.studies.packaged import misconceptions

ROOT = Path(__file__).parents[1]
FEW = {"limit": 4, "pruning_pcts": [20], "neuron_seeds": [0], "criteria": ["PPM"], "pcts": [20.0], "draws": 1}
MEASURE = ("stored_or_measured", "misconceptions")  # functions by which notebooks measure


class Measured(Exception):
    """A notebook came to the end of its first measurement."""


def notebooks_that_measure() -> dict[str, list[str]]:
    """Code of each notebook that measures a model, from its parameters to the cell that measures first."""
    found = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        sources = [cell.source for cell in cells]
        start = next(i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
        first = next((i for i, s in enumerate(sources) if any(f"{name}(" in s for name in MEASURE)), None)
        if first is not None:
            found[path.stem] = sources[start : first + 1]
    return found


def walk_notebook(cells: list[str], model: str, results_dir: Path) -> None:
    """Run a notebook with this model until it has measured; of what it asks, one item of one task."""
    names = {"display": lambda *shown: None}
    parameters, *others = cells
    exec(parameters, names)
    names |= {name: value for name, value in FEW.items() if name in names}
    names |= {"model": model, "results_dir": str(results_dir)}

    def measured(name, tasks, *, measure, **options):
        assert measure and len(evaluate(name, "pocket_facts", **options))
        raise Measured

    def studied(*asked, **options):
        assert options["measure"] and len(misconceptions(*asked, **options))
        raise Measured

    with contextlib.suppress(Measured):
        for cell in others:
            exec("\n".join(line for line in cell.splitlines() if line[:1] != "%"), names)
            names |= {
                name: by for name, by in zip(MEASURE, (measured, studied), strict=True) if name in names
            }
        raise AssertionError(f"it measured nothing: {cells[-1]}")


def plan_rerun(model: str, folder: Path) -> dict:
    """The plan of a rerun of one benchmark, in a new folder."""
    folder.mkdir()
    whole = SUITES["pocket"]
    SUITES["pocket"] = {"pocket_facts": 0}
    try:
        plan = make_plan(Request(model, ratios=(2.0,), experiments=(), limit=1), ROOT, folder / "measured")
    finally:
        SUITES["pocket"] = whole
    write_plan(folder, plan | {"price_per_kwh": None})
    return plan


def walk_rerun(model: str, folder: Path) -> None:
    """The steps of a rerun of one benchmark, as Snakemake calls them."""
    plan, before = plan_rerun(model, folder), Path.cwd()
    try:
        os.chdir(folder)
        for name in plan["jobs"]:
            assert steps.main(["measure", "--job", name, "--threads", "1"]) == 0, name
        assert steps.main(["collect"]) == 0
    finally:
        os.chdir(before)
