"""The page of contributed results: tables for each model and contributor, the source named."""

import pandas as pd

from widthprune.efficiency.analysis import split_measured
from widthprune.results import one_sweep
from widthprune.tables import by_ratio, origin

NONE_YET = "There are none yet: yours would be the first.\n"


TIMES = ["workload", "protocol", "pruning_pct", "tokens", "first_token_ms", "ms_per_token", "ttlt_ms"]


def contributed_page(table: pd.DataFrame, profiles: pd.DataFrame) -> str:
    """Markdown for every contributed model of both results tables: who measured, what on, and by ratio."""
    theirs = table[table["contributor"].notna()]
    parts = []
    for (what, name), rows in sweeps(theirs):
        parts.append(
            f"### {what}, measured by {name}\n\n{markdown(by_ratio(one_sweep(rows)))}\n\n{origin(rows)}\n"
        )
    theirs = profiles[profiles["contributor"].notna()]
    for (model, name), rows in theirs.groupby(["model", "contributor"]):
        times = split_measured(rows)[TIMES].round(2)
        parts.append(
            f"### Time of {model}, measured by {name}\n\n{markdown(times)}\n\nMeans over seeds. {origin(rows)}\n"
        )
    return "\n".join(parts) or NONE_YET


def sweeps(table: pd.DataFrame):
    """Each contributor's rows of one model under one criterion, with the unpruned rows they compare to.

    Prompts in the chat template make tables of their own.
    """
    for (model, name, in_template), rows in table.groupby(["model", "contributor", "chat_template"]):
        unpruned = rows["pruning_pct"] == 0
        for criterion in sorted(set(rows["criterion"][~unpruned])) or ["none"]:
            what = f"{model}, {criterion}" + (", chat template" if in_template else "")
            yield (what, name), rows[unpruned | (rows["criterion"] == criterion)]


def markdown(table: pd.DataFrame) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.to_numpy()]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
