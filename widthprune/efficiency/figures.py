"""Figures of time and energy: the published trade-off, a request taken apart, and the limit that reading weights sets."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ..report.drawn import keep_rows
from ..report.figures import MARKERS, PALETTE, single_value
from ..report.line_labels import label_lines
from ..report.panels import panel_axes
from ..report.tasks import workload_words
from .analysis import change_pct


def plot_tradeoff(summary: pd.DataFrame, *, axes=None) -> np.ndarray:
    """Energy against time, as the paper draws it: change from the unpruned model.

    ``summary`` is `widthprune.efficiency.analysis.summarize` of one model. A column a workload; single requests in the
    first row, batches of eight in the second. Energy per token is drawn as printed: its change is the same in true joules.
    """
    single_value(summary, "model")
    # Single requests first, then batches.
    panels = summary[["batch_size", "workload"]].drop_duplicates().sort_values(["batch_size", "workload"])
    label, shape = "change from the unpruned model, %", dict(height=1.8, sharex=True, sharey=True)
    axes = panel_axes(
        len(panels), axes, columns=panels["batch_size"].value_counts().max(), ylabel=label, **shape
    )
    drawn = {
        "j_per_token_printed": "energy a token",
        "ttlt_ms": "time to\nlast token",
        "throughput_tok_s": "tokens\nper second",
    }
    for ax, name in zip(axes, panels["workload"], strict=True):
        line = summary[summary["workload"] == name]
        for i, (column, label) in enumerate(drawn.items()):
            if line[column].notna().any():
                change = change_pct(line, column)
                keep_rows(ax, line.assign(drawn=label.replace("\n", " "), change_pct=change))
                style = dict(color=PALETTE[i], marker=MARKERS[i], markersize=4)
                ax.plot(line["pruning_pct"], change, label=label, **style)
        ax.axhline(0, color="0.5", linewidth=0.8, zorder=0)
        # Linear around zero and logarithmic beyond: one workload's time grows by 270%.
        ax.set_yscale("symlog", linthresh=25)
        ax.set(title=workload_words(name))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set_yticks([-20, 0, 20, 100, 250])
        if ax.get_subplotspec().is_last_row():
            ax.set_xlabel("neurons pruned, %")
    for ax in axes:  # limits are those of all panels
        label_lines(ax)
    return axes


def plot_decomposition(parts: pd.DataFrame, *, axes=None) -> np.ndarray:
    """Where a request's time comes from: bars of two factors whose product is the dot.

    ``parts`` is `widthprune.efficiency.analysis.decompose` of one model; a panel a workload.
    """
    single_value(parts, "model")
    names = sorted(parts["workload"].unique())
    if axes is None:
        _, axes = plt.subplots(
            1, len(names), figsize=(4.2 * len(names), 3.6), sharey=True, layout="constrained"
        )
    bars = {"tokens_factor": "tokens generated", "time_per_token_factor": "time per token"}
    for ax, name in zip(np.atleast_1d(axes), names, strict=True):
        rows = parts[parts["workload"] == name].sort_values("pruning_pct")
        keep_rows(ax, rows)
        x = np.arange(len(rows))
        for i, (column, label) in enumerate(bars.items()):
            # Bars start at 1, no change.
            ax.bar(x + (i - 0.5) * 0.38, rows[column] - 1, 0.38, bottom=1, color=PALETTE[i], label=label)
        ax.plot(x, rows["ttlt_factor"], "k_", markersize=16, label="time to last token")
        ax.axhline(1, color="0.5", linewidth=0.8)
        ax.set_yscale("log")
        ax.set_yticks([0.9, 1, 1.5, 2, 3, 4], ["0.9", "1", "1.5", "2", "3", "4"])
        ax.minorticks_off()
        ax.set_xticks(x, [f"{pct:g}" for pct in rows["pruning_pct"]])
        ax.set(title=workload_words(name), xlabel="neurons pruned, %")
    np.atleast_1d(axes)[0].set_ylabel("factor against the unpruned model")
    # The workload whose time grows least comes last, and has room above its bars.
    np.atleast_1d(axes)[-1].legend(fontsize="small", frameon=False, loc="upper left")
    return np.atleast_1d(axes)


def plot_request_times(parts: pd.DataFrame, *, ncols: int = 3) -> np.ndarray:
    """First token and further tokens, stacked, with the time to last token as a mark that they should meet.

    ``parts`` is `split_published` or `split_measured`, or both with a column ``source`` that names
    each; a panel a source and workload.
    """
    groups = list(parts.groupby([name for name in ("source", "workload") if name in parts], sort=True))
    nrows = -(-len(groups) // ncols)
    figure, axes = plt.subplots(
        nrows, ncols, figsize=(2.9 * ncols, 2.7 * nrows), squeeze=False, layout="constrained"
    )
    for ax, (name, rows) in zip(axes.flat, groups, strict=False):
        rows = rows.sort_values("pruning_pct")
        x = np.arange(len(rows))
        rest = rows["sum_ms"] - rows["first_token_ms"]
        keep_rows(ax, rows.assign(further_tokens_ms=rest))
        ax.bar(x, rows["first_token_ms"], color=PALETTE[0], label="first token")
        ax.bar(x, rest, bottom=rows["first_token_ms"], color=PALETTE[1], label="further tokens")
        ax.plot(x, rows["ttlt_ms"], "k_", markersize=14, label="time to last token")
        ax.set_xticks(x, [f"{pct:g}" for pct in rows["pruning_pct"]])
        ax.set_title("\n".join(map(workload_words, name)), fontsize="small")
        ax.set(xlabel="neurons pruned, %", ylabel="ms")
    for ax in axes.flat[len(groups) :]:
        ax.set_axis_off()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return axes


def plot_bandwidth_limit(profiles: pd.DataFrame, *, axes=None) -> np.ndarray:
    """Median time per token over width, with the limit: bytes of weights over read bandwidth (dashed). A panel a model."""
    by = ["model", "pruning_pct"]
    single = profiles[profiles["batch_size"] == 1]
    table = single.pivot_table(index=by, columns="metric", values="value")
    models, label = table.groupby("model"), "time per token, ms"
    axes = panel_axes(len(models), axes, columns=len(models), height=2.8, ylabel=label)
    for i, (ax, (model, rows)) in enumerate(zip(axes, models, strict=True)):
        keep_rows(ax, rows[["ms_per_token_p50", "limit_ms_per_token"]])
        pcts = rows.index.get_level_values("pruning_pct")
        ax.plot(pcts, rows["ms_per_token_p50"], color=PALETTE[i], marker=MARKERS[i], label="measured")
        ax.plot(pcts, rows["limit_ms_per_token"], "--", color=PALETTE[i], label="limit")
        ax.set(title=model, xlabel="neurons pruned, %", ylim=(0, None))
        label_lines(ax)
    return axes
