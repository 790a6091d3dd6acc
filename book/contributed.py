"""The page of contributed results: a table for each model and contributor, the source named."""

import pandas as pd

from widthprune.results import most_items
from widthprune.tables import by_ratio, origin

NONE_YET = "There are none yet: yours would be the first.\n"


def contributed_page(table: pd.DataFrame) -> str:
    """Markdown for every contributed model in a results table: who measured, what on, and by ratio."""
    theirs = table[table["contributor"].notna()]
    parts = []
    for (model, name, criterion), rows in sweeps(most_items(theirs)):
        parts.append(
            f"### {model}, {criterion}, measured by {name}\n\n{markdown(by_ratio(rows))}\n\n{origin(rows)}\n"
        )
    return "\n".join(parts) or NONE_YET


def sweeps(table: pd.DataFrame):
    """Each contributor's rows of one model under one criterion, with the unpruned rows they compare to."""
    for (model, name), rows in table.groupby(["model", "contributor"]):
        unpruned = rows["pruning_pct"] == 0
        for criterion in sorted(set(rows["criterion"][~unpruned])) or ["none"]:
            yield (model, name, criterion), rows[unpruned | (rows["criterion"] == criterion)]


def markdown(table: pd.DataFrame) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.to_numpy()]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
