"""The explorer: one page on which a reader chooses what is drawn, from the rows that the whole book shows.

Its data stand in the page itself, so that it works from a file opened by double click. The chart is
Vega-Lite, whose scripts the package ``vl-convert-python`` carries; `book/static/explorer.js` does the rest.
"""

import json
import math
from collections.abc import Iterator, Mapping

import pandas as pd

from widthprune.audit.floors import floor_lines, load_floors
from widthprune.report.escaping import as_html, as_line
from widthprune.report.results import SAME_KIND
from widthprune.report.tasks import TASKS, metric_words

# What the page shows first: the paper's dichotomy, and the models that this repository measured most.
FIRST = {
    "task": "mmlu",
    "x": "pct",
    "model": ["Llama-3.2-1B", "Llama-3.2-3B", "smollm2-135m-instruct", "gemma3-270m"],
    "source": ["published", "measured"],
    "criterion": ["PPM"],
    "prompts": ["plain", "template"],
    "floors": ["on"],
}
_KIND = ["source", "paper_version", "place", "model", *SAME_KIND, "task"]


def vega_script() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that makes ``vegaEmbed`` known and nothing else."""
    import vl_convert

    # A module of its own would not be read from a file: browsers take modules from servers alone.
    return f"(() => {{{vl_convert.javascript_bundle()}}})();\n"


def explorer_page(table: pd.DataFrame, first: Mapping | None = None) -> str:
    """MyST Markdown of the page: the choices (``first`` are made), the place of the chart, the rows as JSON."""
    data = explorer_data(table) | {"first": FIRST | dict(first or {})}
    # No element of a page ends inside it, and no name is markup: it is read as JSON, and written as text.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return PAGE.format(form=form(data), data=text)


def explorer_data(table: pd.DataFrame) -> dict:
    """Lines and their points.

    Returns
    -------
    dict
        ``lines``: a name and what it is chosen by; ``points``: task -> metric -> rows of (line, pruned %, ratio,
        value, standard error, items, origin), where what is not known is None and what is not finite is text;
        ``origins``: texts; ``floors``: task -> name -> value of the headline metric; and words for tasks and metrics.
    """
    lines, points, origins = {}, {}, {}
    for line, rows in _lines(table):
        number = lines.setdefault(json.dumps(line), len(lines))
        for row in rows:
            origin = origins.setdefault(_origin(row), len(origins))
            values = [row[name] for name in ("pruning_pct", "expansion_ratio", "value", "stderr", "n")]
            of_task = points.setdefault(row["task"], {})
            of_task.setdefault(row["metric"], []).append([number, *map(_plain, values), origin])
    floors = floor_lines(load_floors())
    metrics = {metric for by_metric in points.values() for metric in by_metric}
    return {
        "lines": [json.loads(line) for line in lines],
        "points": points,
        "origins": list(origins),
        "floors": {task: {name: float(value) for name, value in floors[task].items()} for task in floors},
        "tasks": {task: [TASKS[task].label, TASKS[task].metric] for task in TASKS if task in points},
        "metrics": {metric: metric_words(metric) for metric in sorted(metrics)},
        "first": FIRST,
    }


def _lines(table: pd.DataFrame) -> Iterator[tuple[dict, list[dict]]]:
    """Every line with its rows: one criterion and draw on one model, and the unpruned model of the same kind."""
    kinds, revisions = {}, {}
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        sweeps = kinds.setdefault(tuple(row[name] for name in _KIND), {})
        sweeps.setdefault((row["criterion"], row["neuron_seed"]), []).append(row)
        revisions.setdefault((row["model"], row["task"]), set()).add(row["revision"])
    for kind, sweeps in kinds.items():
        kind = dict(zip(_KIND, kind, strict=True))
        unpruned = sweeps.pop(("none", None), [])
        several = len(revisions[kind["model"], kind["task"]]) > 1
        for (criterion, draw), rows in (sweeps or {("none", None): []}).items():
            yield _line(kind, criterion, draw, several), [*unpruned, *rows]


def _line(kind: Mapping, criterion: str, draw, several: bool) -> dict:
    words = [kind["model"], {"none": "unpruned"}.get(criterion, criterion)]
    words += ["published"] if kind["source"] == "published" else []
    words += [f"{kind['paper_version']}'s comparison"] if kind["place"] == "comparison of criteria" else []
    words += [] if draw is None else [f"draw {draw}"]
    words += ["in its template"] if kind["chat_template"] else []
    words += [] if kind["limit"] is None else [f"{kind['limit']} items"]
    words += [f"weights {kind['revision'][-6:]}"] if several else []
    chosen_by = {"model": kind["model"], "source": kind["source"], "criterion": criterion}
    return {
        "name": as_line(", ".join(words)),
        "prompts": "template" if kind["chat_template"] else "plain",
    } | chosen_by


def _origin(row: Mapping) -> str:
    if row["source"] == "published":
        return f"{row['paper_version']}, {row['place']}"
    return f"commit {row['commit'][:8]}, {row['device']}"


def _plain(value) -> float | int | str | None:
    if value is None:
        return None
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)


def form(data: Mapping) -> str:
    """The choices, as a form whose names and values are what the page's address holds."""
    models = dict.fromkeys(line["model"] for line in data["lines"])
    criteria = dict.fromkeys(line["criterion"] for line in data["lines"])
    shown = {"none": "unpruned only"}
    tasks = "".join(
        f"<option value='{as_html(task)}'>{as_html(label)}</option>"
        for task, (label, _) in data["tasks"].items()
    )
    first = [
        f"<label>Benchmark <select name='task'>{tasks}</select></label>",
        "<label>Metric <select name='metric'></select></label>",
        _boxes("Over", "x", {"pct": "neurons removed", "ratio": "expansion ratio"}, "radio"),
        _boxes("Floors", "floors", {"on": "what knowing nothing scores"}),
        _boxes("Models", "model", {name: name for name in models}),
    ]
    more = [
        _boxes("Numbers", "source", {"published": "published", "measured": "measured here"}),
        _boxes("Prompts", "prompts", {"plain": "as they are", "template": "in the chat template"}),
        _boxes("Criteria", "criterion", {name: shown.get(name, name) for name in criteria}),
    ]
    folded = "<details><summary>Published or measured, prompts, criteria</summary>{}</details>"
    return "\n".join([*first, folded.format("\n".join(more))])


def _boxes(legend: str, name: str, values: Mapping[str, str], kind: str = "checkbox") -> str:
    boxes = "".join(
        f"<label><input type='{kind}' name='{name}' value='{as_html(value)}'> {as_html(text)}</label>"
        for value, text in values.items()
    )
    return f"<fieldset><legend>{legend}</legend>{boxes}</fieldset>"


PAGE = """# Explorer

Choose, and the chart, the rows below it and the link follow. Bars are one standard error, where one is known; dashed
lines are published. All rows at once: <a href="../results.csv">results.csv</a>, and
<a href="../widthprune-data.zip">everything that the book shows</a>, with what the columns mean.

```{{raw}} html
<form id="explorer-form" class="explorer">
{form}
</form>
<p id="explorer-said" role="status"></p>
<div id="explorer-chart"></div>
<p class="explorer-out">
<label>Link to this choice <input id="explorer-link" readonly></label>
<button type="button" id="explorer-copy">Copy link</button>
<button type="button" id="explorer-svg">Figure as SVG</button>
<button type="button" id="explorer-csv">Rows as CSV</button>
</p>
<div id="explorer-rows" class="scrolls" role="region" aria-label="Rows of the chart" tabindex="0"></div>
<noscript>The explorer needs JavaScript. The same rows are in results.csv.</noscript>
<script id="explorer-data" type="application/json">{data}</script>
<script src="../_static/vega.js"></script>
<script src="../_static/explorer.js"></script>
```
"""
