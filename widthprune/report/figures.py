"""Figures: functions from a tidy table to Axes. Published and measured tables are drawn alike.

Each takes an optional ``ax`` (or ``axes``), draws, and returns it. Nothing is computed here that
`widthprune.report.stats` has not named.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from ..criteria import REGISTRY
from ..errors import WidthPruneError
from .drawn import keep_rows
from .floor_lines import Floors, draw_floors, floor_legend, keep_floors, mark_floor
from .line_labels import label_lines
from .panels import panel_axes, panels, ratio_ticks
from .stats import correlation_or_reason, relative_change, values
from .tasks import TASKS, headline, metric_words

# Safe for colour-blind readers; the marker repeats what the colour says.
PALETTE = sns.color_palette("colorblind")
MARKERS = "osD^vP*Xph<>"


def plot_dichotomy(table: pd.DataFrame, *, floors: Floors | None = None, axes=None) -> np.ndarray:
    """The paper's dichotomy: benchmarks said to be fragile in the first panels, robust in the last.

    Parameters
    ----------
    table : DataFrame
        Results of one model under one criterion (see `widthprune.report.results.sweep`), 0% included.
    floors : mapping of task to named values, optional
        From `widthprune.audit.floors.floor_lines`: lines of the benchmark's colour that end in its marker,
        dotted for the blind floor and dash-dotted for the prompt-reading one.
    axes : as many Axes as `panels` gives, optional

    Returns
    -------
    array of Axes
        Each line is one benchmark: quality kept, in % of the unpruned model. A perplexity enters
        as its inverse, so that down is worse in all panels. Bars are one standard error.
    """
    rows = relative_change(headline(table))
    single_value(rows, "model")
    shown = panels(rows)
    axes = panel_axes(len(shown), axes)
    for ax, (title, names) in zip(axes, shown, strict=True):
        for i, name in enumerate(names):
            task, line = TASKS[name], rows[rows["task"] == name].sort_values("pruning_pct")
            kept = 100 + line["change_pct"]
            error = line["change_se"]
            if not task.higher_is_better:
                # First order: the inverse of a value has the same relative error.
                kept, error = 1e4 / kept, error * 1e4 / kept**2
            label = task.label if task.higher_is_better else f"1 / {task.label}"
            _line(ax, line["pruning_pct"], kept, error, i, label)
            keep_rows(ax, line.assign(kept_pct=kept, kept_se=error))
            keep_floors(ax, floors, name)
            whole = line.loc[line["pruning_pct"] == 0, "value"].iloc[0]
            for kind, floor in (floors or {}).get(name, {}).items():
                mark_floor(
                    ax,
                    100 * (floor / whole if task.higher_is_better else whole / floor),
                    kind,
                    PALETTE[i % len(PALETTE)],
                    MARKERS[i % len(MARKERS)],
                )
        ax.axhline(100, color="0.5", linewidth=0.8, zorder=0)
        ax.set(title=title, ylabel="kept, % of the unpruned model")
        ratio_ticks(ax, rows)
        label_lines(ax)
    floor_legend(axes[0].figure, [name for _, names in shown for name in names], floors)
    return np.asarray(axes)


def plot_paradox(
    table: pd.DataFrame,
    *,
    knowledge: str = "mmlu",
    behaviour: str = "truthfulqa_mc2",
    floors: Floors | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One benchmark against another, a point per ratio, with the least-squares line and Pearson's r.

    ``table`` holds one model under one criterion. The title states r, p and n, or that there is none. Bars are one standard
    error where it is known; the ``floors`` of the two benchmarks are named lines.
    """
    x, y = values(table, knowledge), values(table, behaviour)
    error_x, error_y = (values(table, task, column="stderr") for task in (knowledge, behaviour))
    both = pd.concat({"x": x, "y": y, "error_x": error_x, "error_y": error_y}, axis=1, join="inner")
    found = correlation_or_reason(table, knowledge, behaviour)
    numbers = (
        "no correlation" if isinstance(found, str) else f"r = {found.r:.3f}, p = {found.p:.3f}, n = {found.n}"
    )
    ax = ax or plt.gca()
    rows = headline(table[table["task"].isin([knowledge, behaviour])])
    keep_rows(ax, rows[rows["pruning_pct"].isin(both.index)])
    sns.regplot(
        both, x="x", y="y", ci=None, ax=ax, color=PALETTE[0], line_kws={"linewidth": 1, "color": PALETTE[3]}
    )
    ax.errorbar(
        both["x"], both["y"], both["error_y"], both["error_x"], fmt="none", color=PALETTE[0], linewidth=0.8
    )
    draw_floors(ax, floors, knowledge, upright=True)
    draw_floors(ax, floors, behaviour)
    ax.margins(0.12)
    for pct, point in both[["x", "y"]].iterrows():
        ax.annotate(f"{pct:g}%", point, xytext=(5, 4), textcoords="offset points", fontsize="small")
    ax.set(
        xlabel=f"{TASKS[knowledge].label} ({metric_words(TASKS[knowledge].metric)})",
        ylabel=f"{TASKS[behaviour].label} ({metric_words(TASKS[behaviour].metric)})",
        title=f"{single_value(table, 'model')}\n{numbers}",
    )
    return ax


def plot_criteria(
    table: pd.DataFrame, *, task: str, floors: Floors | None = None, ax: Axes | None = None
) -> Axes:
    """One benchmark under every criterion; rows of one ``label`` share colour and marker.

    ``table`` has a ``label`` column beside the tidy ones (for instance the paper's version). The
    unpruned model is the row "none". A value that is not finite is drawn at the edge and named.
    """
    rows = table[(table["task"] == task) & (table["metric"] == TASKS[task].metric)]
    if rows.empty:
        raise WidthPruneError(f"the table has no {TASKS[task].metric} of {task}: evaluate it first")
    ax = ax or plt.gca()
    # Variants such as PPM-GLOBAL, and names of others' making, come after the criteria of this package.
    order = dict.fromkeys(["none", *REGISTRY, *rows["criterion"]])
    order = [name for name in order if name in set(rows["criterion"])]
    finite = rows["value"][np.isfinite(rows["value"])]
    edge = finite.max() * (3 if not TASKS[task].higher_is_better else 1)
    rows = rows.assign(drawn_at=rows["value"].where(np.isfinite(rows["value"]), edge))
    keep_rows(ax, rows)
    for i, (label, group) in enumerate(rows.groupby("label", sort=False)):
        y = group["criterion"].map(order.index) + 0.12 * i
        ax.errorbar(
            group["drawn_at"],
            y,
            xerr=group["stderr"],
            fmt=MARKERS[i],
            color=PALETTE[i],
            label=label,
            capsize=2,
            alpha=0.9,
        )
        for at, value in zip(y, group["value"], strict=True):
            if not np.isfinite(value):
                ax.annotate(
                    f"{value:g} (overflow)", (edge, at), xytext=(-6, 5), textcoords="offset points",
                    ha="right", fontsize="small",
                )  # fmt: skip
    draw_floors(ax, floors, task, upright=True)
    if not TASKS[task].higher_is_better:
        ax.set_xscale("log")
    ax.set_yticks(range(len(order)), ["unpruned" if name == "none" else name for name in order])
    ax.invert_yaxis()
    ax.set(xlabel=f"{TASKS[task].label} ({metric_words(TASKS[task].metric)})", ylabel="criterion")
    # Below the axes: within them its markers would be taken for values.
    below = dict(loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.5, ncols=2)
    ax.legend(fontsize="small", frameon=False, **below)
    return ax


def plot_models(
    table: pd.DataFrame,
    *,
    tasks: Sequence[str],
    floors: Floors | None = None,
    names: Mapping[str, str] | None = None,
    axes=None,
) -> np.ndarray:
    """Several models over the ratios: one panel a benchmark, one line a model, published ones dashed.

    ``table`` holds one sweep a model, published or measured; a benchmark that it lacks has no panel. ``names`` are those
    of lines that are not called by their model. Returns the axes that were drawn on.
    """
    tasks = [task for task in tasks if task in set(table["task"])]
    axes = panel_axes(len(tasks), axes, height=3)[: len(tasks)]
    # A model has one colour in all panels, also in those where another is missing.
    styles = {model: i for i, model in enumerate(sorted(set(table["model"])))}
    for ax, task in zip(axes, tasks, strict=True):
        rows = table[table["task"] == task]
        plot_sweep(rows, task=task, floors=floors, styles=styles, names=names, ax=ax)
    return axes


def plot_sweep(
    table: pd.DataFrame,
    *,
    task: str,
    floors: Floors | None = None,
    styles: Mapping[str, int] | None = None,
    names: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One benchmark over the ratios, a line per model; bars are one standard error, floors are named.

    ``styles`` gives each model's place in the palette, default its place among the models of the table.
    ``names`` is as in `plot_models`. Published values are dashed.
    """
    rows = headline(table[table["task"] == task])
    ax = ax or plt.gca()
    keep_rows(ax, rows)
    styles = styles or {model: i for i, model in enumerate(sorted(set(rows["model"])))}
    for model, line in rows.groupby("model", sort=True):
        line = line.sort_values("pruning_pct")
        dashes = "--" if (line["source"] == "published").all() else "-"
        name = (names or {}).get(model, model)
        _line(ax, line["pruning_pct"], line["value"], line["stderr"], styles[model], name, linestyle=dashes)
    draw_floors(ax, floors, task)
    if not TASKS[task].higher_is_better:
        ax.set_yscale("log")
    ratio_ticks(ax, rows)
    ax.set(title=TASKS[task].label, ylabel=metric_words(TASKS[task].metric))
    label_lines(ax)
    return ax


def plot_parameters(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Total parameters over the expansion ratio, a line per model.

    ``table`` has the columns ``model``, ``expansion_ratio`` and ``parameters``.
    """
    ax = ax or plt.subplots(figsize=(9, 3.2), layout="constrained")[1]
    table = table.assign(billions=table["parameters"] / 1e9)
    keep_rows(ax, table)
    for i, (model, line) in enumerate(table.groupby("model", sort=True)):
        line = line.sort_values("expansion_ratio")
        # Models of one shape lie on one line: the wider, the deeper.
        style = dict(
            color=PALETTE[i], marker=MARKERS[i], linewidth=1.4 + 2 * (i == 0), markersize=5 + 3 * (i == 0)
        )
        ax.plot(line["expansion_ratio"], line["billions"], label=model, **style)
    ax.set(xlabel="expansion ratio, d_ff / d_model", ylabel="parameters, billions", ylim=(0, None))
    label_lines(ax)
    return ax


def _line(ax, x, y, error, i, label, **more):
    style = dict(color=PALETTE[i % len(PALETTE)], marker=MARKERS[i % len(MARKERS)], markersize=5)
    ax.errorbar(x, y, yerr=error.astype(float), label=label, linewidth=1.4, **style, **more)


def plot_comparison(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Two runs: the difference of each number in standard errors, a row per benchmark and width.

    ``table`` is what `widthprune.reruns.compare.compare_runs` gives; rows without a difference or an error are
    left out. Positive is higher in the second run, in the metric's own direction. The band is two
    standard errors, where differences of chance mostly fall.
    """
    rows = table.dropna(subset=["z"])
    if rows.empty:
        raise WidthPruneError("the figure needs a difference with a standard error, and the runs have none")
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 1 + 0.3 * len(rows)), layout="constrained")
    keep_rows(ax, rows)
    labels = [
        f"{TASKS[row.task].label}, {row.pruning_pct:g}%"
        + (f" {row.criterion}" if row.pruning_pct else "")
        + (", chat template" if row.chat_template else "")
        for row in rows.itertuples()
    ]
    ax.axvspan(-2, 2, color="0.9", zorder=0)
    ax.axvline(0, color="0.5", linewidth=0.8)
    ax.plot(rows["z"], range(len(rows)), "o", color=PALETTE[0])
    ax.set_yticks(range(len(rows)), labels, fontsize="small")
    ax.invert_yaxis()
    ax.set_xlabel("second run minus first, in standard errors")
    return ax


def single_value(table: pd.DataFrame, column: str) -> str:
    """What a column holds throughout; a figure of one thing refuses a table of several."""
    found = sorted(set(table[column]))
    if len(found) != 1:
        raise WidthPruneError(f"the figure is of one {column}, got {', '.join(found) or 'none'}: select one")
    return found[0]
