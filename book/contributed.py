"""The page of contributed results: tables for each model and contributor, the source named.

Nothing else reads the folder of contributed results. Their strings were written by strangers: each goes
through `as_myst` on its way into the page.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from widthprune.efficiency.analysis import split_measured
from widthprune.errors import WidthPruneError
from widthprune.report.escaping import as_myst
from widthprune.report.results import PROFILE_COLUMNS, one_sweep, tidy
from widthprune.report.runs import is_profile, result_files, run_rows
from widthprune.report.tables import by_ratio, criterion_labels, origin
from widthprune.reruns.contributions import Problem, find_problems

NONE_YET = "There are none yet: yours would be the first.\n"


TIMES = ["workload", "protocol", "pruning_pct", "tokens", "first_token_ms", "ms_per_token", "ttlt_ms"]


def read_contributed(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, list[Problem]]:
    """Benchmarks and profiles of every file that `widthprune check` finds no fault with, and the problems."""
    if not folder.is_dir() or not result_files(folder):
        return tidy(pd.DataFrame()), tidy(pd.DataFrame(), PROFILE_COLUMNS), []
    problems, runs = find_problems(folder)
    faulty = {problem.path for problem in problems}
    sound = [run for path, run in runs.items() if path not in faulty]
    rows = {
        kind: [row for run in sound if is_profile(run) == kind for row in run_rows(run)]
        for kind in (False, True)
    }
    return tidy(pd.DataFrame(rows[False])), tidy(pd.DataFrame(rows[True]), PROFILE_COLUMNS), problems


def contributed_page(table: pd.DataFrame, profiles: pd.DataFrame) -> str:
    """Markdown for every contributed model of both results tables: who measured, what on, and by ratio."""
    theirs = table[table["contributor"].notna()]
    parts = [
        section(f"{what}, measured by {name}", rows, lambda rows: by_ratio(one_sweep(rows)))
        for (what, name), rows in sweeps(theirs)
    ]
    theirs = profiles[profiles["contributor"].notna()]
    parts += [
        section(f"Time of {model}, measured by {name}", rows, times, "Means over seeds. ")
        for (model, name), rows in theirs.groupby(["model", "contributor"])
    ]
    return "\n".join(parts) or NONE_YET


def section(title: str, rows: pd.DataFrame, shown: Callable, note: str = "") -> str:
    """One table with its title and source; a line instead where the numbers make no table."""
    try:
        body = markdown(shown(rows))
    except WidthPruneError as error:
        body = f"No table: {as_myst(error)}."
    return f"### {as_myst(title)}\n\n{body}\n\n{note}{origin(rows, as_myst)}\n"


def times(profiles: pd.DataFrame) -> pd.DataFrame:
    return split_measured(profiles)[TIMES].round(2)


def sweeps(table: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Each contributor's rows of one model under one criterion, with the unpruned rows they compare to.

    Prompts in the chat template make tables of their own, and so does each draw of RANDOM.
    """
    for (model, name, in_template), rows in table.groupby(["model", "contributor", "chat_template"]):
        unpruned, labels = rows["pruning_pct"] == 0, pd.Series(criterion_labels(rows), index=rows.index)
        for label in sorted(set(labels[~unpruned])) or ["none"]:
            what = f"{model}, {label}" + (", chat template" if in_template else "")
            yield (what, name), rows[unpruned | (labels == label)]


def markdown(table: pd.DataFrame) -> str:
    """A table of any texts and numbers in MyST Markdown."""
    lines = [
        map(as_myst, table.columns),
        ["---"] * len(table.columns),
        *(map(as_myst, row) for row in table.to_numpy()),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
