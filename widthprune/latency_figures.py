"""Figures of time: a request taken apart, and time per token beside what reading the weights must take."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .figures import PALETTE


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
        ax.bar(x, rows["first_token_ms"], color=PALETTE[0], label="first token")
        ax.bar(x, rest, bottom=rows["first_token_ms"], color=PALETTE[1], label="further tokens")
        ax.plot(x, rows["ttlt_ms"], "k_", markersize=14, label="time to last token")
        ax.set_xticks(x, [f"{pct:g}" for pct in rows["pruning_pct"]])
        ax.set_title("\n".join(name), fontsize="small")
        ax.set(xlabel="neurons pruned, %", ylabel="ms")
    for ax in axes.flat[len(groups) :]:
        ax.set_axis_off()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return axes


def plot_bandwidth_limit(profiles: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Median time per token over width, with the limit: bytes of weights over read bandwidth (dashed)."""
    ax = ax or plt.subplots(figsize=(7.2, 3.4), layout="constrained")[1]
    by = ["model", "pruning_pct"]
    single = profiles[profiles["batch_size"] == 1]
    table = single.pivot_table(index=by, columns="metric", values="value")
    for i, (model, rows) in enumerate(table.groupby("model")):
        pcts = rows.index.get_level_values("pruning_pct")
        ax.plot(pcts, rows["ms_per_token_p50"], "o-", color=PALETTE[i], label=f"{model}, measured")
        ax.plot(pcts, rows["limit_ms_per_token"], "--", color=PALETTE[i], label=f"{model}, limit")
    ax.set(xlabel="neurons pruned, %", ylabel="time per token, ms", ylim=(0, None))
    # Beside the lines, which fill the whole height.
    ax.legend(fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax
