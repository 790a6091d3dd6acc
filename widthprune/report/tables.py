"""Tables as a reader wants them: a row per benchmark, a column per ratio, uncertainty beside the value."""

import re
from collections.abc import Callable, Mapping

import pandas as pd
from pandas.api.types import is_numeric_dtype

from ..errors import WidthPruneError
from ..models.packaged import weights_format
from .escaping import as_html
from .provenance import short_commit
from .tasks import TASKS, headline, metric_words, workload_words

SIGNED = "+.3f"  # how a change is written
# What a name in a table says, where it is not the name itself without its underscores.
WORDS = {
    "kind": "MLP",
    "task": "benchmark",
    "one": "criterion",
    "other": "against",
    "p_holm": "p, Holm's",
    "pruning_pct": "neurons removed",
    "put_back": "change put back into",
    "random_sd": "random, deviation",
    "stderr": "standard error",
    "neuron_seed": "draw",
    "paper_version": "version",
    "multiple_of": "a multiple of",
    "label": "run",
}


def in_words(table: pd.DataFrame) -> pd.DataFrame:
    """The table with names of columns, of rows and in cells as words, for readers and not for code.

    Names of metrics are known as such where a level of columns or rows says "metric". A text that is missing is empty.

    >>> in_words(pd.DataFrame({"measure": ["known_rare"], "p_holm": [0.5]})).to_dict("list")
    {'measure': ['known rare'], "p, Holm's": [0.5]}
    """
    for axis, names in (("index", table.index.names), ("columns", table.columns.names)):
        if "metric" in names:
            level = "metric" if len(names) > 1 else None
            table = table.rename(metric_words, axis=axis, level=level)
    table = table.apply(lambda column: column if is_numeric_dtype(column) else column.fillna(""))
    table = table.map(as_word).rename(index=as_word, columns=as_word)
    return table.rename_axis(index=as_word, columns=as_word)


def as_word(name):
    """A name in a table as a reader knows it; what is no name of code is left as it is."""
    if not isinstance(name, str):
        return name
    if name in TASKS:
        return TASKS[name].label
    name = workload_words(name)
    return WORDS.get(name, name.replace("_", " ") if re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", name) else name)


def show(table: pd.DataFrame):
    """`by_ratio` with a caption that says where the numbers come from, styled for a notebook."""
    # The error stands below its value, or seven ratios would not fit a page.
    rows = by_ratio(table).replace(" ± ", "\n± ", regex=True)
    styled = rows.style.format(escape="html").hide(axis="index").set_caption(origin(table))
    return styled.set_table_styles([{"selector": "td, th", "props": "white-space: pre; font-size: 85%"}])


def origin(table: pd.DataFrame, escape: Callable[[str], str] = as_html) -> str:
    """One line on where a table's numbers come from: the paper's version, or who measured what on what.

    Measured rows name model, its weights' precision, limit, seed, device and the commit. These are strings
    of results files; ``escape`` makes them text where the line is put: HTML, such as a table's caption.
    """

    def every(column: pd.Series) -> str:
        return escape(", ".join(str(value) for value in column.dropna().unique()))

    if (table["source"] == "published").all():
        versions = " and ".join(sorted(table["paper_version"].unique()))
        return f"Published: arXiv 2512.22671 {versions}, {every(table['model'])}."
    limits = ["all items" if pd.isna(limit) else f"limit {limit}" for limit in table["limit"].unique()]
    commits = {
        "none" if pd.isna(commit) or not commit else escape(short_commit(commit))
        for commit in table["commit"]
    }
    by = f" by {every(table['contributor'])}" if table["contributor"].notna().any() else ""
    chat = table["chat_template"]
    chat = "" if not chat.any() else ", chat template" if chat.all() else ", with and without chat template"
    models = escape("; ".join(dict.fromkeys(map(_with_weights, table.to_dict("records")))))
    return (
        f"Measured{by}: {models}{chat}, {', '.join(limits)}, seed "
        f"{every(table['seed'])}, on {every(table['device'])}, commit {', '.join(sorted(commits))}. ± is one standard error."
    )


def _with_weights(row: Mapping) -> str:
    """A measured model with the precision of its weights, and that of the arithmetic where it is another."""
    stored = row["weights_format"]
    if pd.isna(stored):  # results from before it was recorded
        stored = weights_format(row["model"]) or ("the checkpoint's dtype" if row["dtype"] == "auto" else "")
    cast = "" if row["dtype"] == "auto" else f"read as {row['dtype']}"
    computed = row["compute_dtype"]
    other = "" if pd.isna(computed) or stored.endswith(computed) else f"computed in {computed}"
    return f"{row['model']} ({', '.join(filter(None, [stored, cast, other]))})"


def by_ratio(table: pd.DataFrame) -> pd.DataFrame:
    """Headline metrics of one model, one row a benchmark, one column a pruning percentage, as text.

    Values have their standard error after a ± where it is known. The last column is the number of
    items behind each value, where that is known.
    """
    rows = headline(table)
    shown = pd.DataFrame(
        {
            "benchmark": [TASKS[task].label for task in rows["task"]],
            "metric": [metric_words(metric) for metric in rows["metric"]],
            "pruned": rows["pruning_pct"].to_numpy(),
            "text": texts(rows),
            "n": rows["n"].to_numpy(),
        }
    )
    if shown.duplicated(["benchmark", "metric", "pruned"]).any():
        raise WidthPruneError(
            "the table has several runs of one width: select one draw and one calibration first"
        )
    wide = shown.pivot(index=["benchmark", "metric"], columns="pruned", values="text")
    wide.columns = [f"{pct:g}%" for pct in wide.columns]
    if shown["n"].notna().any():
        wide["n"] = shown.groupby(["benchmark", "metric"])["n"].first().astype("string")
    pairs = [(task.label, metric_words(task.metric)) for task in TASKS.values()]
    order = [pair for pair in pairs if pair in wide.index]
    return wide.loc[order].fillna("").reset_index()


def texts(table: pd.DataFrame, form: str = "") -> list[str]:
    """Each row's value with its standard error, as `with_error` writes it."""
    return [with_error(*pair, form) for pair in zip(table["value"], table["stderr"], strict=True)]


def criterion_labels(table: pd.DataFrame) -> list[str]:
    """Each row's criterion; RANDOM with its draw, so that several draws are several rows."""
    pairs = zip(table["criterion"], table["neuron_seed"], strict=True)
    return [name if pd.isna(draw) else f"{name}, draw {draw}" for name, draw in pairs]


def with_error(value: float, stderr: float, form: str = "") -> str:
    """A value with its standard error, to the digits a reader can use, or in a ``form`` such as `SIGNED`.

    Of too few items there may be no error, which is left out, or no value either, which is an en dash.

    >>> with_error(0.80729, 0.02854), with_error(839.05, 63.2), with_error(float("inf"), float("nan"))
    ('0.807 ± 0.029', '839 ± 63', 'inf')
    >>> with_error(0.0234, 0.004, SIGNED), with_error(float("nan"), float("nan"), SIGNED)
    ('+0.023 ± 0.004', '–')
    """
    if pd.isna(value):
        return "–"
    form = form or f".{3 if abs(value) < 10 else 2 if abs(value) < 100 else 0}f"
    return f"{value:{form}}" + ("" if pd.isna(stderr) else f" ± {stderr:{form.removeprefix('+')}}")
