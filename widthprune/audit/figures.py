"""Figures of the audit: scores against floors, pairs of benchmarks, criteria at equal damage.

As in `widthprune.figures`, each takes a tidy table and an optional ``ax`` (or ``axes``), draws, and returns it.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from ..errors import WidthPruneError
from ..figures import MARKERS, PALETTE, SIDES, Floors, draw_floor
from ..tasks import TASKS, headline
from .floors import headline_floors


def above_floor(table: pd.DataFrame, floors: Floors) -> pd.DataFrame:
    """Headline accuracies with ``above``, their distance from the floor; tasks without a floor are left out."""
    rows = headline(table)
    rows = rows[[TASKS[task].higher_is_better and task in floors for task in rows["task"]]]
    return rows.assign(above=rows["value"] - rows["task"].map(dict(floors)))


def explained_by_floor(
    table: pd.DataFrame, floors: Floors, tasks=("ifeval", "truthfulqa_mc2")
) -> pd.DataFrame:
    """How much of a benchmark's largest rise lies below its floor, model by model.

    Returns
    -------
    DataFrame
        ``unpruned``, ``best`` (the highest score of a pruned model), ``at`` (its pruning percentage),
        ``floor``, and ``explained_pct``: the part of the rise, in %, that a responder who knows nothing
        would show as well. Models that do not rise are left out.
    """
    rows = headline(table[table["task"].isin(tasks)])
    found = []
    for (model, task), line in rows.groupby(["model", "task"]):
        line = line.set_index("pruning_pct")["value"]
        pruned = line.drop(0)
        start, best = line[0], pruned.max()
        if best > start and task in floors:
            part = (np.clip(floors[task], start, best) - start) / (best - start)
            row = (model, task, start, best, pruned.idxmax(), floors[task], 100 * part)
            found.append(row)
    columns = ["model", "task", "unpruned", "best", "at", "floor", "explained_pct"]
    return pd.DataFrame(found, columns=columns)


def plot_above_floor(table: pd.DataFrame, floors: Floors, *, axes=None) -> np.ndarray:
    """The two panels of the dichotomy again, as distance from the floor instead of change in %.

    ``table`` holds one model under one criterion. At zero a benchmark says nothing.
    """
    rows = above_floor(table, floors)
    if rows["model"].nunique() != 1:
        raise WidthPruneError(f"the figure is of one model, got {', '.join(sorted(set(rows['model'])))}")
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(11, 4.4), sharex=True, sharey=True, layout="constrained")
    for ax, (side, title) in zip(axes, SIDES.items(), strict=True):
        names = [name for name in TASKS if name in set(rows["task"]) and TASKS[name].side == side]
        for i, name in enumerate(names):
            line = rows[rows["task"] == name].sort_values("pruning_pct")
            style = dict(
                color=PALETTE[i % len(PALETTE)], marker=MARKERS[i % len(MARKERS)], markersize=5, capsize=2
            )
            ax.errorbar(line["pruning_pct"], line["above"], yerr=line["stderr"].astype(float),
                        label=TASKS[name].label, linewidth=1.4, **style)  # fmt: skip
        ax.axhline(0, color="0.3", linestyle=":", linewidth=1.2, zorder=0)
        ax.set(title=title, xlabel="neurons pruned, %", ylabel="score less its floor")
        ax.legend(fontsize="small", frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return np.asarray(axes)


def plot_explained(
    table: pd.DataFrame, floors: pd.DataFrame, *, tasks=("ifeval", "truthfulqa_mc2"), axes=None
) -> np.ndarray:
    """What rises, and what responders that know nothing score: one panel a benchmark, a line a model.

    ``floors`` is the whole table of `widthprune.audit.floors.compute_floors`; each null responder, or the fair
    die in multiple choice, is a named dotted line. The legend says how much of a model's largest rise lies
    below the floor, as `explained_by_floor` computes it.
    """
    if axes is None:
        _, axes = plt.subplots(1, len(tasks), figsize=(5.6 * len(tasks), 4.4), layout="constrained")
    rows = headline(table[table["task"].isin(tasks)])
    explained = explained_by_floor(table, headline_floors(floors), tasks).set_index(["model", "task"])
    for ax, task in zip(np.atleast_1d(axes), tasks, strict=True):
        for i, (model, line) in enumerate(rows[rows["task"] == task].groupby("model")):
            line, label = line.sort_values("pruning_pct"), model
            if (model, task) in explained.index:
                label += (
                    f": {explained.loc[(model, task), 'explained_pct']:.0f}% of the rise is below the floor"
                )
            ax.errorbar(line["pruning_pct"], line["value"], yerr=line["stderr"].astype(float), label=label,
                        color=PALETTE[i], marker=MARKERS[i % len(MARKERS)], markersize=5, capsize=2)  # fmt: skip
        known = floors[(floors["task"] == task) & (floors["metric"] == TASKS[task].metric)]
        known = known.set_index("responder")["value"].sort_values()
        _name_lines(ax, {"equal probabilities": known["uniform"]} if "uniform" in known else known.to_dict())
        ax.set(title=TASKS[task].label, xlabel="neurons pruned, %", ylabel=TASKS[task].metric)
        ax.legend(fontsize="small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    return np.atleast_1d(axes)


def _name_lines(ax, values):
    """Dotted lines with their names; lines too close for two names share one."""
    for value in values.values():
        ax.axhline(value, color="0.5", linestyle=":", linewidth=1)
    apart = 0.04 * np.ptp(ax.get_ylim())
    groups = []
    for name, value in sorted(values.items(), key=lambda pair: pair[1]):
        if groups and value - groups[-1][1] < apart:
            groups[-1] = (f"{groups[-1][0]}, {name}", value)
        else:
            groups.append((name, value))
    for name, value in groups:
        ax.annotate(name, (1, value), xycoords=("axes fraction", "data"), fontsize="x-small",
                    xytext=(-3, 2), textcoords="offset points", ha="right", color="0.35")  # fmt: skip


def plot_pairs(
    associations: pd.DataFrame, *, behaviour: str = "truthfulqa_mc2", ax: Axes | None = None
) -> Axes:
    """r of every knowledge benchmark with one behaviour: Fisher's interval, and the partial r given the ratio.

    ``associations`` is `widthprune.audit.association.associations`. Filled: r; open: what is left of it when the
    ratio, which both follow, is taken out.
    """
    rows = associations[associations["behaviour"] == behaviour].sort_values(["knowledge", "model"])
    ax = ax or plt.gca()
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
    """A benchmark under every criterion over perplexity; ``found`` is `widthprune.audit.controls.same_damage`."""
    ax = ax or plt.gca()
    for i, (criterion, rows) in enumerate(found.groupby("criterion", sort=False)):
        for j, (_, draw) in enumerate(rows.groupby("neuron_seed", dropna=False)):
            label = criterion if j == 0 else None
            ax.plot(draw["perplexity"], draw["value"], color=PALETTE[i % len(PALETTE)], marker=MARKERS[i % len(MARKERS)],
                    markersize=4, linewidth=1.2, label=label)  # fmt: skip
    if floors is not None and task in floors:
        draw_floor(ax, floors[task])
    ax.set_xscale("log")
    ax.set(xlabel="perplexity: equal damage", ylabel=TASKS[task].metric, title=TASKS[task].label)
    ax.legend(fontsize="small", frameon=False)
    return ax


def plot_draws(
    table: pd.DataFrame, *, task: str, floors: Floors | None = None, ax: Axes | None = None
) -> Axes:
    """One benchmark of one model over pruning percentages, a line a criterion, from the unpruned score.

    Of random neurons the line is the mean over draws and the band reaches from the lowest to the highest.
    """
    rows = headline(table[table["task"] == task])
    pruned, whole = rows[rows["criterion"] != "none"], rows[rows["criterion"] == "none"]
    criteria = sorted(pruned["criterion"].unique())
    starts = [whole.assign(criterion=criterion) for criterion in criteria]
    ax = ax or plt.gca()
    sns.lineplot(
        pd.concat([*starts, pruned]),
        x="pruning_pct",
        y="value",
        hue="criterion",
        style="criterion",
        errorbar=("pi", 100),
        palette=PALETTE[: len(criteria)],
        markers=list(MARKERS[: len(criteria)]),
        dashes=False,
        ax=ax,
    )
    if floors is not None and task in floors:
        draw_floor(ax, floors[task])
    if not TASKS[task].higher_is_better:
        ax.set_yscale("log")
    ax.set(xlabel="neurons pruned, %", ylabel=TASKS[task].label)
    ax.legend(fontsize="small", frameon=False, title=None)
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
    shares = rows.assign(type=rows["metric"].str.removeprefix("share_"))
    shares = shares.pivot(index="type", columns="pruning_pct", values="value").rename(columns="{:g}%".format)
    ax = ax or plt.gca()
    sns.heatmap(shares, vmin=0, vmax=1, cmap="cividis", annot=True, fmt=".2f", ax=ax, cbar=False)
    ax.set(xlabel="neurons pruned", ylabel="")
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
