"""The long measurements of results/grid.yml: name what is missing, or measure it.

    python benchmarks/measure_grid.py                                  # the missing cells, entry by entry
    WIDTHPRUNE_DATA=... python benchmarks/measure_grid.py --run [--models NAME ...] [--tasks NAME ...]
    WIDTHPRUNE_DATA=... python benchmarks/measure_grid.py --run --device cuda --jobs 8

Every result is written as soon as it is there: killed at any moment, the same command goes on. A small
model leaves most of a GPU idle, which several jobs share.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd
import yaml

from widthprune import load_results
from widthprune.criteria import find_criterion
from widthprune.evaluation.evaluate import evaluate_points
from widthprune.evaluation.grid import grid
from widthprune.evaluation.settings import Settings
from widthprune.models.loading import model_shape

GRID = Path(__file__).parents[1] / "results" / "grid.yml"
GENERATED = {"gsm8k", "ifeval"}


@dataclass(frozen=True)
class Cell:
    """One result of the grid: a benchmark at one width, under one criterion and draw."""

    model: str
    task: str
    limit: int | None
    criterion: str
    width: tuple[str, float]  # "pruning_pct" or "expansion_ratio", and its value
    neuron_seed: int | None
    chat_template: bool

    def __str__(self):
        draw = "" if self.neuron_seed is None else f", draw {self.neuron_seed}"
        template = ", chat template" if self.chat_template else ""
        name, value = self.width
        size = f"{value:g}%" if name == "pruning_pct" else f"{value:g}x"
        return f"{self.task} on {self.model}: {self.criterion} at {size}{draw}{template}"


def cells(entry: Mapping) -> Iterator[Cell]:
    """The cells of one entry, model by model and task by task, the unpruned model first."""
    widths = [("pruning_pct", pct) for pct in entry.get("pruning_pcts", ())]
    widths += [("expansion_ratio", ratio) for ratio in entry.get("expansion_ratios", ())]
    drawn = [("none", ("pruning_pct", 0), None)]
    for criterion in entry.get("criteria", ["PPM"]):
        for seed in entry.get("neuron_seeds", [0]) if find_criterion(criterion).seeded else [None]:
            drawn += [(criterion, width, seed) for width in widths]
    for model in entry["models"]:
        for task, limit in entry["tasks"].items():
            for point in drawn:
                yield Cell(model, task, limit, *point, entry.get("chat_template", False))


def missing(entry: Mapping, results: pd.DataFrame) -> list[Cell]:
    """The cells of an entry that a table of results lacks."""
    return [cell for cell in cells(entry) if not is_there(cell, results)]


def is_there(cell: Cell, results: pd.DataFrame) -> bool:
    """Whether a table holds a cell's result, with these items, this draw and this way of asking."""
    name, value = cell.width
    # A ratio that no whole number of neurons has is kept one neuron above.
    near = 5e-5 if name == "pruning_pct" else 2e-3
    found = results["model"].eq(cell.model) & results["task"].eq(cell.task)
    found &= results["criterion"].eq(cell.criterion) & (results[name] - value).abs().lt(near)
    found &= results["chat_template"].eq(cell.chat_template) & results["seed"].eq(0)
    found &= results["limit"].isna() if cell.limit is None else results["limit"].eq(cell.limit)
    if cell.neuron_seed is not None:
        found &= results["neuron_seed"].eq(cell.neuron_seed)
    return bool(found.any())


def parts(lacking: Sequence[Cell], split: bool) -> Iterator[list[Cell]]:
    """Cells that one call measures: of one benchmark on one model, under one draw.

    ``split`` parts what is generated width by width, which takes a minute a width and more.
    """

    def belongs(cell: Cell):
        alone = cell.width if split and cell.task in GENERATED else None
        return cell.model, cell.task, cell.limit, cell.chat_template, cell.criterion, cell.neuron_seed, alone

    for _, part in groupby(lacking, belongs):
        yield list(part)


def measure(part: Sequence[Cell], results_dir: str, device: str) -> None:
    """The cells of one part and no other: the unpruned model is a part of its own."""
    cell = part[0]
    settings = Settings(limit=cell.limit, chat_template=cell.chat_template, device=device)
    widths = {"pruning_pct": [], "expansion_ratio": []}
    for each in part:
        name, value = each.width
        widths[name].append(value)
    points = grid(
        *model_shape(cell.model),
        pruning_pcts=widths["pruning_pct"],
        expansion_ratios=widths["expansion_ratio"],
        criteria=[cell.criterion] if cell.criterion != "none" else [],
        # The draw of the sweep's own seed is stored without a name.
        neuron_seeds=[None if cell.neuron_seed == settings.seed else cell.neuron_seed],
    )
    points = [point for point in points if point.criterion == cell.criterion]
    table = evaluate_points(cell.model, [cell.task], points, settings, results_dir=results_dir)
    for name, reason in table.attrs["missing"].items():
        print(f"cannot be measured here: {name}: {reason}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="measure what is missing")
    parser.add_argument("--models", nargs="+", help="these alone")
    parser.add_argument("--tasks", nargs="+", help="these alone")
    parser.add_argument("--entries", nargs="+", help="those alone whose names begin so")
    parser.add_argument("--results-dir", default=GRID.parent)
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, mps")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side; default 1")
    options = parser.parse_args()
    results, todo = load_results(options.results_dir), []
    for entry in yaml.safe_load(GRID.read_text(encoding="utf-8")):
        if options.entries and not entry["entry"].startswith(tuple(options.entries)):
            continue
        entry["models"] = [m for m in entry["models"] if not options.models or m in options.models]
        entry["tasks"] = {t: n for t, n in entry["tasks"].items() if not options.tasks or t in options.tasks}
        lacking = missing(entry, results)
        todo += lacking
        print(f"{entry['entry']}: {len(lacking)} of {len(list(cells(entry)))} missing", flush=True)
        if not options.run:
            print("".join(f"  {cell}\n" for cell in lacking), end="")
    if options.run:
        run(list(dict.fromkeys(todo)), options.jobs, str(options.results_dir), options.device)


def run(todo: Sequence[Cell], jobs: int, results_dir: str, device: str) -> None:
    """Measure these cells in their order, in so many processes; a part that fails is named, and stops no other."""
    some = list(parts(todo, split=jobs > 1))
    # Fresh processes, since a GPU's state does not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = [pool.submit(measure, part, results_dir, device) for part in some]
    failed = [(part, each.exception()) for part, each in zip(some, done, strict=True) if each.exception()]
    for part, error in failed:
        print(f"{part[0]}: {error}", file=sys.stderr)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
