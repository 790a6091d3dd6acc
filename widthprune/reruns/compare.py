"""Two runs side by side: differences of their numbers against the standard errors of those."""

import io
from pathlib import Path

import pandas as pd

from ..commands.options import existing_folder, file_to_write
from ..errors import WidthPruneError, in_one_line
from ..report.atomic import write_atomically
from ..report.escaping import as_line
from ..report.results import load_results
from ..report.stats import difference
from ..report.tables import with_error
from ..report.tasks import TASKS
from .records import RECORD, read_record, results_of

KEYS = ("criterion", "pruning_pct", "task", "chat_template", "metric")


def add_compare(commands) -> None:
    command = commands.add_parser("compare", help="two runs side by side, differences in standard errors")
    command.set_defaults(run=compare)
    command.add_argument("run_a", type=existing_folder, help="a folder of `rerun`, or any results directory")
    command.add_argument("run_b", type=existing_folder)
    command.add_argument("--figure", type=file_to_write, help="draw it, too: a .png, .svg or .pdf file")


def compare(options) -> None:
    from ..report.figures import plot_comparison

    suffixes = (".png", ".svg", ".pdf")
    if options.figure and options.figure.suffix not in suffixes:
        raise WidthPruneError(f"figure must end in {', '.join(suffixes)}, got {options.figure}")
    table = compare_runs(read_results(options.run_a), read_results(options.run_b))
    print(table_text(table))
    for line in parameters_that_differ(options.run_a, options.run_b):
        print(line)
    if options.figure:
        drawn = io.BytesIO()
        with in_one_line(
            "the figure cannot be drawn", "set or unset the variable of matplotlib that this is about"
        ):
            kind = options.figure.suffix.removeprefix(".")
            plot_comparison(table).figure.savefig(drawn, format=kind, bbox_inches="tight")
        write_atomically(options.figure, drawn.getvalue())
        print(options.figure)


def read_results(folder: Path) -> pd.DataFrame:
    """The results of a run's folder, or of a results directory."""
    table = load_results(results_of(folder))
    if table.empty:
        raise WidthPruneError(f"{folder} holds no results: name a folder of `rerun` or a results directory")
    return table


def compare_runs(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Headline numbers of two runs, matched by criterion, percentage removed, task, template and metric.

    Parameters
    ----------
    a, b : DataFrame
        Tables of `widthprune.load_results`, each of one model.

    Returns
    -------
    DataFrame
        A row for each number that either has: the keys; ``model_a``, ``value_a``, ``stderr_a``, ``n_a``
        and the same of b (empty where a run has none); ``difference`` = b - a, of perplexities that of
        their logarithms; ``stderr`` of it, from both taken as independent, which overstates it where both
        saw the same items; ``z``, their ratio, as `widthprune.report.stats.difference` computes them.

    Raises
    ------
    WidthPruneError
        If a run has several models, or several numbers for one row, or the runs have no row in common.
    """
    pair = a.pipe(_one_each, "run_a").merge(
        b.pipe(_one_each, "run_b"), on=list(KEYS), how="outer", suffixes=("_a", "_b")
    )
    log = [not TASKS[task].higher_is_better for task in pair["task"]]
    found = difference(*((pair[f"value_{run}"], pair[f"stderr_{run}"]) for run in "ab"), log=log)
    pair["difference"], pair["stderr"], pair["z"] = *found, found.z
    if pair["difference"].isna().all():
        raise WidthPruneError(
            "the runs have no number in common: compare runs that share a task and a width, or the unpruned model"
        )
    order = {task: i for i, task in enumerate(TASKS)}
    pair["order"] = pair["task"].map(order)
    pair = pair.sort_values(["order", "chat_template", "criterion", "pruning_pct"], ignore_index=True)
    return pair.drop(columns="order")


def table_text(table: pd.DataFrame) -> str:
    """The comparison as a text table, with what is in one run alone left blank in the other."""
    shown = table[["task", "metric", "criterion"]].copy()
    if table["chat_template"].any():
        shown["chat template"] = table["chat_template"].map({True: "yes", False: "no"})
    shown["pruned"] = table["pruning_pct"].map("{:g}%".format)
    for side in ("a", "b"):
        pairs = zip(table[f"value_{side}"], table[f"stderr_{side}"], strict=True)
        shown[side] = ["" if pd.isna(value) else with_error(value, error) for value, error in pairs]
        shown[f"n_{side}"] = table[f"n_{side}"].astype("string").fillna("")
    pairs = zip(table["difference"], table["stderr"], strict=True)
    shown["b - a"] = ["" if pd.isna(value) else with_error(value, error) for value, error in pairs]
    log = table["task"].map(lambda task: not TASKS[task].higher_is_better)
    shown["b - a"] = shown["b - a"].mask(log & (shown["b - a"] != ""), "log " + shown["b - a"])
    shown["in standard errors"] = ["" if pd.isna(z) else f"{z:+.1f}" for z in table["z"]]
    models = [table[f"model_{side}"].dropna().iloc[0] for side in ("a", "b")]
    heading = f"a: {models[0]}\nb: {models[1]}\n"
    return heading + shown.to_string(index=False)


def parameters_that_differ(a: Path, b: Path) -> list[str]:
    """One line for each entry of the two runs' records that is not the same; none without two records."""
    if not all((folder / RECORD).exists() for folder in (a, b)):
        return []
    first, second = (record["parameters"] | {"revision": record["model_revision"]} | record["data"] | record["versions"]
                     for record in map(read_record, (a, b)))  # fmt: skip
    names = dict.fromkeys([*first, *second])
    return [
        as_line(f"differs: {name}: {first.get(name, 'none')} and {second.get(name, 'none')}")
        for name in names
        if first.get(name) != second.get(name)
    ]


def _one_each(table: pd.DataFrame, name: str) -> pd.DataFrame:
    rows = table[table["metric"] == table["task"].map({task: known.metric for task, known in TASKS.items()})]
    if (models := sorted(set(table["model"]))) and len(models) > 1:
        raise WidthPruneError(f"{name} holds several models ({', '.join(models)}): name the folder of one")
    if (twice := rows.duplicated(list(KEYS))).any():
        row = rows[twice].iloc[0]
        raise WidthPruneError(
            f"{name} has several results for {row['task']} at {row['pruning_pct']:g}% {row['criterion']}: "
            "name a folder with one limit, seed and dtype"
        )
    return rows[[*KEYS, "model", "value", "stderr", "n"]]
