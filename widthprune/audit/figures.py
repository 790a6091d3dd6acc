"""Figures of the audit: scores against floors, pairs of benchmarks, criteria at equal damage.

As in `widthprune.report.figures`, each takes a tidy table and an optional ``ax`` (or ``axes``), draws, and returns it.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from ..criteria import REGISTRY
from ..errors import WidthPruneError
from ..report.drawn import keep_rows
from ..report.figures import MARKERS, PALETTE
from ..report.floor_lines import Floors, draw_floors, floor_legend, keep_floors, mark_floor
from ..report.line_labels import label_lines
from ..report.panels import panel_axes, panels
from ..report.tasks import TASKS, headline, instruction_words, metric_words
from .floors import FLOOR_NAMES, floor_lines

BLIND = FLOOR_NAMES["blind"]


def above_floor(table: pd.DataFrame, floors: Floors) -> pd.DataFrame:
    """Headline accuracies with ``above``, their distance from the blind floor; tasks without one are left out."""
    rows = headline(table)
    blind = {task: lines[BLIND] for task, lines in floors.items() if BLIND in lines}
    rows = rows[[TASKS[task].higher_is_better and task in blind for task in rows["task"]]]
    return rows.assign(above=rows["value"] - rows["task"].map(blind))


def rise_below_floors(
    table: pd.DataFrame, floors: Floors, tasks=("ifeval", "truthfulqa_mc2")
) -> pd.DataFrame:
    """How much of a benchmark's largest rise lies below its floors, model by model.

    Returns
    -------
    DataFrame
        A row a model, task and floor: ``unpruned``, ``best`` (the highest score of a pruned model), ``at`` (its
        pruning percentage), ``floor`` (its name), ``floor_value``, and ``below_pct``: the part of the rise, in %,
        in which the score cannot be told apart from that responder's. That does not explain the rise: the
        responder's own score does not rise with pruning. Models that do not rise are left out.
    """
    rows = headline(table[table["task"].isin(tasks)])
    found = []
    for (model, task), line in rows.groupby(["model", "task"]):
        line = line.set_index("pruning_pct")["value"]
        pruned = line.drop(0)
        start, best = line[0], pruned.max()
        for name, floor in floors.get(task, {}).items() if best > start else ():
            part = (np.clip(floor, start, best) - start) / (best - start)
            found.append((model, task, start, best, pruned.idxmax(), name, floor, 100 * part))
    columns = ["model", "task", "unpruned", "best", "at", "floor", "floor_value", "below_pct"]
    return pd.DataFrame(found, columns=columns)


def plot_above_floor(table: pd.DataFrame, floors: Floors, *, axes=None) -> np.ndarray:
    """The panels of the dichotomy again, as distance from the blind floor instead of change in %.

    ``table`` holds one model under one criterion. At zero a benchmark says nothing. A prompt-reading floor is a
    line of its benchmark's colour that ends in its marker.
    """
    rows = above_floor(table, floors)
    if rows["model"].nunique() != 1:
        raise WidthPruneError(f"the figure is of one model, got {', '.join(sorted(set(rows['model'])))}")
    shown = panels(rows)
    axes = panel_axes(len(shown), axes, height=2.15, sharey=True)
    for ax, (title, names) in zip(axes, shown, strict=True):
        for i, name in enumerate(names):
            line = rows[rows["task"] == name].sort_values("pruning_pct")
            style = dict(
                color=PALETTE[i % len(PALETTE)], marker=MARKERS[i % len(MARKERS)], markersize=5, capsize=2
            )
            ax.errorbar(line["pruning_pct"], line["above"], yerr=line["stderr"].astype(float),
                        label=TASKS[name].label, linewidth=1.4, **style)  # fmt: skip
            keep_rows(ax, line)
            keep_floors(ax, floors, name)
            for kind, floor in floors[name].items():
                if kind != BLIND:
                    mark_floor(ax, floor - floors[name][BLIND], kind, style["color"], style["marker"])
        ax.axhline(0, color="0.3", linestyle=":", linewidth=1.2, zorder=0)
        ax.set(title=title, xlabel="neurons pruned, %", ylabel="score less its blind floor")
    for ax in axes:  # limits are those of all panels
        label_lines(ax)
    floor_legend(axes[0].figure, [name for _, names in shown for name in names], floors)
    return np.asarray(axes)


def plot_rises(
    table: pd.DataFrame, floors: pd.DataFrame, *, tasks=("ifeval", "truthfulqa_mc2"), axes=None
) -> np.ndarray:
    """What rises, and what responders that know nothing score: one panel a benchmark, a line a model.

    ``floors`` is the whole table of `widthprune.audit.floors.compute_floors`. Both floors are named lines, and so, dashed,
    is each control. The legend says how much of a model's largest rise lies below each floor, as
    `rise_below_floors` computes it.
    """
    if axes is None:
        _, axes = plt.subplots(1, len(tasks), figsize=(5.6 * len(tasks), 4.8), layout="constrained")
    lines = floor_lines(floors)
    rows = headline(table[table["task"].isin(tasks)])
    below = rise_below_floors(table, lines, tasks)
    for ax, task in zip(np.atleast_1d(axes), tasks, strict=True):
        keep_rows(ax, rows[rows["task"] == task])
        for i, (model, line) in enumerate(rows[rows["task"] == task].groupby("model")):
            line = line.sort_values("pruning_pct")
            of_rise = below[(below["model"] == model) & (below["task"] == task)]
            parts = [f"{row.below_pct:.0f}% below the {row.floor}" for row in of_rise.itertuples()]
            label = f"{model}: of the rise\n{', '.join(parts)}" if parts else model
            ax.errorbar(line["pruning_pct"], line["value"], yerr=line["stderr"].astype(float), label=label,
                        color=PALETTE[i], marker=MARKERS[i % len(MARKERS)], markersize=5, capsize=2)  # fmt: skip
        draw_floors(ax, lines, task)
        controls = floors[(floors["task"] == task) & (floors["metric"] == TASKS[task].metric)]
        controls = controls[controls["kind"] == "control"]
        keep_rows(ax, controls.rename(columns={"responder": "model"}), source="control")
        for row in controls.itertuples():
            ax.axhline(row.value, color="0.6", linestyle=(0, (4, 4)), linewidth=1, zorder=0)
            ax.annotate(f"control: {row.responder}", (1, row.value), xycoords=("axes fraction", "data"), xytext=(-2, 2),
                        textcoords="offset points", ha="right", fontsize="x-small", color="0.35")  # fmt: skip
        ax.set(title=TASKS[task].label, xlabel="neurons pruned, %", ylabel=metric_words(TASKS[task].metric))
        ax.legend(fontsize="small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    return np.atleast_1d(axes)


def plot_pairs(
    associations: pd.DataFrame, *, behaviour: str = "truthfulqa_mc2", ax: Axes | None = None
) -> Axes:
    """r of every knowledge benchmark with one behaviour: Fisher's interval, and the partial r given the ratio.

    ``associations`` is `widthprune.audit.association.associations`. Filled: r; open: what is left of it when the
    ratio, which both follow, is taken out.
    """
    rows = associations[associations["behaviour"] == behaviour].sort_values(["knowledge", "model"])
    ax = ax or plt.gca()
    keep_rows(ax, rows)
    names = list(dict.fromkeys(rows["knowledge"]))
    for i, (model, of_model) in enumerate(rows.groupby("model")):
        y = of_model["knowledge"].map(names.index) + 0.2 * i
        spread = [of_model["r"] - of_model["low"], of_model["high"] - of_model["r"]]
        ax.errorbar(of_model["r"], y, xerr=spread, fmt=MARKERS[i], color=PALETTE[i], capsize=2, label=model)
        ax.plot(of_model["partial_r"], y, MARKERS[i], color=PALETTE[i], fillstyle="none", linestyle="none")
    ax.axvline(0, color="0.5", linewidth=0.8, zorder=0)
    ax.set_yticks(range(len(names)), [TASKS[name].label for name in names])
    ax.invert_yaxis()
    ax.set(xlabel=f"r with {TASKS[behaviour].label}; open: given the ratio", xlim=(-1.05, 1.05))
    ax.legend(fontsize="small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
    return ax


def plot_same_damage(
    found: pd.DataFrame, *, task: str, floors: Floors | None = None, ax: Axes | None = None
) -> Axes:
    """A benchmark under every criterion over perplexity; ``found`` is `widthprune.audit.comparisons.same_damage`."""
    ax = ax or plt.gca()
    keep_rows(ax, found, task=task)
    # A criterion looks alike in all panels, also where another is missing; names of others' making come last.
    order = list(dict.fromkeys(["PPM", "RANDOM", *REGISTRY, *found["criterion"]]))
    for criterion, rows in found.groupby("criterion", sort=False):
        i = order.index(criterion)
        for j, (_, draw) in enumerate(rows.groupby("neuron_seed", dropna=False)):
            label = criterion if j == 0 else None
            ax.plot(draw["perplexity"], draw["value"], color=PALETTE[i % len(PALETTE)], marker=MARKERS[i % len(MARKERS)],
                    markersize=4, linewidth=1.2, label=label)  # fmt: skip
    draw_floors(ax, floors, task)
    ax.set_xscale("log")
    # From less than a power of ten to many: plain numbers, as many as have room.
    subs = (1,) if found["perplexity"].max() > 30 * found["perplexity"].min() else (1, 2, 5)
    ax.xaxis.set_major_locator(LogLocator(subs=subs))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(
        xlabel="perplexity: equal damage", ylabel=metric_words(TASKS[task].metric), title=TASKS[task].label
    )
    label_lines(ax)
    return ax


def plot_draws(
    table: pd.DataFrame, *, task: str, floors: Floors | None = None, ax: Axes | None = None
) -> Axes:
    """One benchmark of one model over pruning percentages, a line a criterion, from the unpruned score.

    Of random neurons the line is the mean over draws and the band reaches from the lowest to the highest.
    """
    rows = headline(table[table["task"] == task])
    ax = ax or plt.gca()
    for i, criterion in enumerate(sorted(set(rows["criterion"]) - {"none"})):
        drawn = rows[rows["criterion"].isin(["none", criterion])]
        own = drawn.groupby("pruning_pct")["value"].agg(["mean", "min", "max"])
        keep_rows(ax, drawn.assign(criterion=criterion).join(own, on="pruning_pct"))
        style = dict(color=PALETTE[i], marker=MARKERS[i], markersize=5)
        ax.plot(own.index, own["mean"], label=criterion, **style)
        ax.fill_between(own.index, own["min"], own["max"], color=PALETTE[i], alpha=0.2)
    draw_floors(ax, floors, task)
    if not TASKS[task].higher_is_better:
        ax.set_yscale("log")
    ax.set(xlabel="neurons pruned, %", ylabel=TASKS[task].label)
    label_lines(ax)
    return ax


def plot_instruction_types(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Share of instructions followed, by type and pruning percentage: which rise when a text degenerates.

    ``table`` holds the ``share_*`` metrics of `widthprune.audit.diagnostics` of one model under one criterion.
    """
    rows = table[table["metric"].str.startswith("share_")]
    if rows.empty:
        raise WidthPruneError(
            "the table has no share_* metrics: run with --save-samples, then `widthprune diagnose`"
        )
    shares = rows.assign(type=rows["metric"].str.removeprefix("share_").map(instruction_words))
    shares = shares.pivot(index="type", columns="pruning_pct", values="value").rename(columns="{:g}%".format)
    ax = ax or plt.gca()
    keep_rows(ax, rows)
    ax.pcolormesh(shares, vmin=0, vmax=1, cmap="cividis")
    for (row, column), share in np.ndenumerate(shares.to_numpy(float)):
        if np.isfinite(share):
            color = "white" if share < 0.5 else "0.15"  # of the two, that with the more contrast
            # The layout need not ask hundreds of numbers for their size, which are within the panel.
            style = dict(ha="center", va="center", fontsize="small", color=color, in_layout=False)
            ax.text(column + 0.5, row + 0.5, f"{share:.2f}", **style)
    ax.set_xticks(np.arange(shares.shape[1]) + 0.5, shares.columns)
    ax.set_yticks(np.arange(shares.shape[0]) + 0.5, shares.index)
    ax.tick_params(length=0)
    ax.set(xlabel="neurons pruned", ylabel="", ylim=(len(shares), 0))
    return ax


def plot_instruction_panels(table: pd.DataFrame, by: Sequence[str]) -> list[Axes]:
    """`plot_instruction_types` of each group of the columns ``by``, one below the other under its name.

    Draws nothing where the table has no ``share_*`` metrics. Returns the axes, top first.
    """
    groups = list(table[table["metric"].str.startswith("share_")].groupby(list(by)))
    if not groups:
        return []
    types = [rows["metric"].nunique() for _, rows in groups]
    _, axes = plt.subplots(
        len(groups),
        figsize=(9, sum(types) / 4 + 1.2 * len(groups)),
        height_ratios=types,
        layout="constrained",
        squeeze=False,
    )
    for ax, (name, rows) in zip(axes.flat, groups, strict=True):
        plot_instruction_types(rows, ax=ax).set_title(", ".join(name))
    return list(axes.flat)
