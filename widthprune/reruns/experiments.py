"""Experiments: which notebook shows what is measured on a model, and the runs it will look for.

A rerun measures these first, one job per pruned model, so that the notebook only reads, draws and judges.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import WidthPruneError
from ..evaluation.grid import Point, grid
from ..report.tasks import SUITES


@dataclass(frozen=True)
class Experiment:
    """A notebook that measures, and the tasks it measures."""

    notebook: str
    tasks: tuple[str, ...]
    least_widths: int = 1  # pruned widths it needs to have a result
    in_template: tuple[str, ...] = ()  # of these tasks, those it measures in the chat template as well


EXPERIMENTS = {
    "criteria": Experiment("02_criteria", ("pocket_prose", "pocket_facts")),
    "capabilities": Experiment("03_capabilities", tuple(SUITES["pocket"])),
    # A correlation needs three points, and the unpruned model is one.
    "truthfulness": Experiment(
        "04_truthfulness",
        ("pocket_facts", "pocket_misconceptions_mc1", "pocket_misconceptions_mc2"),
        least_widths=2,
    ),
    "instruct": Experiment("06_instruct", tuple(SUITES["pocket"]), in_template=("pocket_instructions",)),
}


def check_experiments(names) -> list[str]:
    """The names, each once; an unknown one is refused."""
    for name in names:
        if name not in EXPERIMENTS:
            raise WidthPruneError(f"experiments must be of {', '.join(EXPERIMENTS)}, got {name!r}")
    return list(dict.fromkeys(names))


def notebook_parameters(path: Path, chosen: Mapping) -> dict:
    """The parameters of a notebook: its own defaults, with those of ``chosen`` that it has.

    The comparison of criteria keeps its own criteria, adds those asked for, and has its own percentage
    beside the ratios asked for.
    """
    import papermill

    if not path.is_file():
        raise WidthPruneError(
            f"there is no notebook {path}: run from a clone of the repository, or name it with --project"
        )
    defaults = {
        name: ast.literal_eval(found["default"])
        for name, found in papermill.inspect_notebook(str(path)).items()
    }
    parameters = defaults | {name: value for name, value in chosen.items() if name in defaults}
    if len(defaults.get("criteria", ())) > 1:
        parameters["criteria"] = list(dict.fromkeys([*defaults["criteria"], *chosen.get("criteria", ())]))
        parameters["pruning_pcts"] = parameters["pruning_pcts"] or defaults["pruning_pcts"]
    return parameters


class Run(NamedTuple):
    """One results file that is wanted."""

    point: Point
    task: str
    chat_template: bool = False


def needed_runs(
    tasks: Sequence[str], in_template: Sequence[str], parameters: Mapping, shape: tuple[int, int]
) -> list[Run]:
    """Every run of these tasks that a notebook will look for, given its parameters.

    Those ``in_template`` are measured in the chat template as well, where the parameters ask for it.
    """
    widths = {"pruning_pcts": parameters["pruning_pcts"]}
    points = grid(*shape, **widths, expansion_ratios=parameters["ratios"], criteria=parameters["criteria"])
    runs = [Run(point, task) for point in points for task in tasks]
    if parameters.get("chat_template"):
        runs += [Run(point, task, chat_template=True) for point in points for task in in_template]
    if draws := parameters.get("random_seeds"):
        points = grid(*shape, **widths, criteria=["RANDOM"], neuron_seeds=draws)
        runs += [Run(point, "pocket_prose") for point in points if point.criterion != "none"]
    return runs
