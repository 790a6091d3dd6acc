"""The grid of long measurements: what is missing is named, and parted for processes that work side by side."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from widthprune import WidthPruneError, load_results
from widthprune.models.packaged import PACKAGED
from widthprune.report.tasks import SUITES, TASKS

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
import measure_grid  # noqa: E402

ENTRY = dict(
    models=["m"],
    tasks={"mmlu": 570, "ifeval": 100},
    pruning_pcts=[10, 20],
    criteria=["PPM", "RANDOM"],
    neuron_seeds=[0, 1],
)


def test_every_cell_is_named_once():
    names = [str(cell) for cell in measure_grid.cells(ENTRY)]
    assert len(names) == len(set(names)) == 2 * (1 + 2 + 2 * 2)
    assert "mmlu on m: none at 0%" in names and "ifeval on m: RANDOM at 20%, draw 1" in names
    ratios = measure_grid.cells(
        dict(models=["m"], tasks={"mmlu": 570}, expansion_ratios=[2.4], chat_template=True)
    )
    assert [*map(str, ratios)][1] == "mmlu on m: PPM at 2.4x, chat template"


@pytest.mark.parametrize("split", [False, True])
def test_parts_hold_every_cell_once_and_what_is_generated_by_widths(split):
    cells = list(measure_grid.cells(ENTRY))
    parts = list(measure_grid.parts(cells, split))
    assert [cell for part in parts for cell in part] == cells
    if not split:  # a model is loaded once a benchmark
        assert [{cell.task for cell in part} for part in parts] == [{"mmlu"}, {"ifeval"}]
        return
    for part in parts:
        assert len({(cell.task, cell.criterion, cell.neuron_seed) for cell in part}) == 1
        alone = part[0].task == "ifeval" or part[0].criterion == "none"
        assert len(part) == (1 if alone else 2)


def test_a_cell_is_there_with_its_items_its_draw_and_its_way_of_asking():
    results = load_results(ROOT / "results")
    found = dict(model="qwen2.5-coder-1.5b-instruct", task="mmlu", limit=570, criterion="none")
    cell = measure_grid.Cell(**found, width=("pruning_pct", 0), neuron_seed=None, chat_template=False)
    assert measure_grid.is_there(cell, results)
    for change in (
        dict(limit=100),
        dict(limit=None),
        dict(chat_template=True),
        dict(model="m"),
        dict(neuron_seed=1),
    ):
        assert not measure_grid.is_there(replace(cell, **change), results)


def test_the_grid_asks_for_what_can_be_measured():
    for entry in yaml.safe_load(measure_grid.GRID.read_text(encoding="utf-8")):
        assert set(entry["models"]) <= set(PACKAGED)
        assert set(entry["tasks"]) <= set().union(*SUITES.values())
        for task in entry["tasks"]:
            generated = TASKS[task].metric.startswith(("exact_match", "prompt_level"))
            assert (task in measure_grid.GENERATED) == generated


@pytest.mark.parametrize("split", [False, True])
def test_a_part_measures_its_cells_alone(split, language_model, tmp_path):
    entry = dict(ENTRY, models=[language_model], tasks={"pocket_facts": 2}, expansion_ratios=[1.25])
    cells = list(measure_grid.cells(entry))
    for part in measure_grid.parts(cells, split):
        assert all(not measure_grid.is_there(cell, load_results(tmp_path)) for cell in part)
        measure_grid.measure(part, str(tmp_path), "cpu")
    results = load_results(tmp_path)
    assert len(list(tmp_path.rglob("*.json"))) == len(cells)
    public = Path(language_model).name
    assert all(measure_grid.is_there(replace(cell, model=public), results) for cell in cells)


def test_a_part_that_fails_is_named_and_stops_no_other(monkeypatch, capsys):
    measured = []

    def measure(part, results_dir, device):
        if part[0].criterion == "PPM":
            raise WidthPruneError("no memory")
        measured.extend(part)

    monkeypatch.setattr(
        measure_grid, "ProcessPoolExecutor", lambda jobs, mp_context: ThreadPoolExecutor(jobs)
    )
    monkeypatch.setattr(measure_grid, "measure", measure)
    cells = list(measure_grid.cells(ENTRY))
    with pytest.raises(SystemExit):
        measure_grid.run(cells, 2, "results", "cpu")
    assert "mmlu on m: PPM at 10%: no memory\n" in capsys.readouterr().err
    assert sorted(map(str, measured)) == sorted(str(cell) for cell in cells if cell.criterion != "PPM")
