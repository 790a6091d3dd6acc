"""Figures of the studies of packaged models: from a tidy table to Axes. Bars are one standard error."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import norm

from ..criteria import REGISTRY
from ..report.drawn import keep_rows
from ..report.figures import MARKERS, PALETTE
from ..report.line_labels import label_lines
from ..report.panels import panel_axes, split_names
from ..report.stats import over_draws
from ..report.tables import SIGNED, texts
from ..report.tasks import TASKS, headline, is_headline
from .comparing import holm
from .pairs import MYTHS, SETS
from .stored import AGAINST

CRITERIA = ("PPM", "PPM-REVERSED", "ATTRIBUTED", "RANDOM")
LEAST_P = 1e-4  # below it a normal distribution's tail says no more


def _kind(name: str) -> str:
    return "myths" if name in MYTHS else "plain falsehoods"


def plot_odds(table: pd.DataFrame, sets: Sequence[str] = tuple(SETS), *, axes=None) -> np.ndarray:
    """How the log-odds of myth against truth move as neurons go, a panel a set, a line a criterion.

    Parameters
    ----------
    table : DataFrame
        The study's rows of one model.
    sets : sequence of str
    axes : as many Axes as sets, optional
    """
    label = "change of the log-odds of\nmyth against truth, a token"
    shape = dict(columns=min(3, len(sets)), height=1.75, sharey=True)
    axes = panel_axes(len(sets), axes, ylabel=label, **shape)
    rows = table[table["measure"] == "odds"]
    starts = rows.assign(pruning_pct=0.0, value=0.0, stderr=0.0).drop_duplicates(["set", "criterion"])
    rows = pd.concat([starts, rows])  # unpruned, nothing has changed
    for ax, name in zip(axes, sets, strict=True):
        ax.axhline(0, color="0.6", linewidth=0.8)
        for i, criterion in enumerate(CRITERIA):
            own = rows[(rows["set"] == name) & (rows["criterion"] == criterion)]
            own = own.groupby("pruning_pct")[["value", "stderr"]].mean()
            keep_rows(ax, own, set=name, criterion=criterion)
            ax.errorbar(
                own.index,
                own["value"],
                own["stderr"],
                color=PALETTE[i],
                marker=MARKERS[i],
                markersize=4,
                label=criterion,
            )
        ax.set(title=f"{name}: {_kind(name)}", xlabel="neurons removed, %")
    for ax in axes:  # limits are those of all panels
        label_lines(ax, fontsize=7.5)
    return np.asarray(axes)


def plot_shares_of_odds(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """The share of the log-odds in the neurons of the lowest PPM, less the share of neurons: 0 is no preference."""
    if ax is None:
        ax = plt.subplots(figsize=(6, 3.6), layout="constrained")[1]
    rows = table[table["measure"] == "share"]
    ax.axhline(0, color="0.6", linewidth=0.8)
    for i, name in enumerate(name for name in SETS if name in set(rows["set"])):
        own = rows[rows["set"] == name].sort_values("pruning_pct")
        # Side by side, so that bars do not hide one another.
        own = own.assign(drawn_at=own["pruning_pct"] + 0.6 * (i - 2))
        keep_rows(ax, own)
        ax.errorbar(
            own["drawn_at"],
            own["value"],
            own["stderr"],
            color=PALETTE[i],
            marker=MARKERS[i],
            linestyle="-" if name in MYTHS else "--",
            markersize=4,
            label=f"{name} ({_kind(name)})",
        )
    ax.set(xlabel="neurons of the lowest PPM, %", ylabel="share of the log-odds,\nless their number")
    label_lines(ax)
    return ax


def table_of(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """One measure as a table: a row a criterion and percentage, a column a set, means over draws with one standard error."""
    own = rows[rows["measure"] == measure]
    means = own.groupby(["criterion", "pruning_pct", "set"])[["value", "stderr"]].mean()
    means = pd.Series(texts(means, SIGNED), means.index, dtype=object)
    wide = means.unstack("set", fill_value="not measured")[[name for name in SETS if name in set(own["set"])]]
    wide.columns = [f"{name}, {_kind(name)}" for name in wide]
    wide = wide.rename(index="{:g}%".format, level="pruning_pct").rename_axis(index=["criterion", "neurons"])
    return wide if own["pruning_pct"].any() else wide.droplevel("neurons")


def by_model(rows: pd.DataFrame, measure: str, pct: float = 0.0, criterion: str = "PPM") -> pd.DataFrame:
    """One measure at one percentage as a table: a row a model, a column a set, with one standard error."""
    own = rows[(rows["measure"] == measure) & (rows["pruning_pct"] == pct) & (rows["criterion"] == criterion)]
    wide = (
        own.assign(text=texts(own, SIGNED))
        .pivot(index="model", columns="set", values="text")
        .fillna("not measured")
    )
    wide = wide[[name for name in SETS if name in wide]].rename_axis(columns=None)
    return wide.rename(columns=lambda name: f"{name}, {_kind(name)}")


def four_bits_table(table: pd.DataFrame, task: str = "") -> pd.DataFrame:
    """What four bits change in one model, as text: without a task the removed neurons, with one its headline metric.

    A row a criterion and percentage; for a task a column for each way of choosing neurons: by the stored weights, by
    those of four bits for the stored ones, and for themselves.
    """
    metric = TASKS[task].metric if task else "changed"
    rows = table[(table["task"] == task) & (table["metric"] == metric)]
    neurons = rows["pruning_pct"].map("{:g}%".format)
    if not task:
        shown = rows.assign(text=texts(rows, ".1%"), neurons=neurons)
        return shown.pivot(index="criterion", columns="neurons", values="text")
    way = rows["weights"] + " weights, neurons chosen by " + rows["chosen_by"].replace("stored", "the stored")
    shown = rows.assign(text=texts(rows), neurons=neurons, way=way)
    return shown.pivot(index=["criterion", "neurons"], columns="way", values="text").fillna("")


def heads_table(table: pd.DataFrame) -> pd.DataFrame:
    """AMP with key-value groups beside neurons alone in one model, as text: what is left, what it scores, and the difference.

    Differences are neurons and groups less the same neurons alone, and less neurons alone of as many parameters, item by item,
    of a perplexity in its logarithm; p is the normal distribution's, corrected by Holm over all of one kind in the table.
    """
    keys, tasks = ["pruning_pct", "removed"], [task for task in TASKS if task in set(table["task"])]
    scored = table[is_headline(table)]
    sizes = scored.drop_duplicates(keys).set_index(keys)[["parameters"]]
    scored = scored.assign(text=texts(scored)).pivot(index=keys, columns="task", values="text")
    kinds = {metric: f"both less {removed}" for removed, metric in AGAINST.items()}
    apart = table[table["metric"].isin(list(kinds))]
    apart = apart.assign(removed=apart["metric"].map(kinds))
    z = apart["value"] / apart["stderr"]
    z = z.mask((apart["value"] == 0) & apart["stderr"].notna(), 0.0)  # nothing moved: no spread
    p = pd.Series(2 * norm.sf(z.abs()), apart.index)
    # Two questions: are groups free, and are they cheaper than neurons.
    p = p.groupby(apart["metric"]).transform(holm)
    # Of one item there is no error, and no p.
    told = p.map(lambda own: f", p {own:.2g}" if own >= LEAST_P else f", p < {LEAST_P:g}", na_action="ignore")
    ends = told.astype(object).fillna("")
    apart = apart.assign(text=pd.Series(texts(apart, SIGNED), apart.index, dtype=object) + ends)
    apart = apart.pivot(index=keys, columns="task", values="text")
    shown = pd.concat([sizes.map("{:,}".format).join(scored[tasks]), apart]).fillna("")
    removed = (
        "nothing",
        "neurons and groups",
        *itertools.chain(*((own, f"both less {own}") for own in AGAINST)),
    )
    order = itertools.product(sorted(set(table["pruning_pct"])), removed)
    shown = shown.loc[[key for key in order if key in shown.index]]
    gone = table.groupby("pruning_pct")["groups"].max()
    labels = [
        (f"{pct:g}%", name.replace("and groups", f"and {gone[pct]} group{'' if gone[pct] == 1 else 's'}"))
        for pct, name in shown.index
    ]
    shown.index = pd.MultiIndex.from_tuples(labels, names=["pruned", "removed"])
    return shown.rename(columns={task: TASKS[task].label for task in tasks})


def sizes_and_scores(
    measured: pd.DataFrame, sliced: pd.DataFrame | None = None, damage: str = "pocket_prose"
) -> pd.DataFrame:
    """Width pruning under every criterion beside SliceGPT at the same size, each with the damage that it does.

    Parameters
    ----------
    measured : DataFrame
        Results of one model, the unpruned one included; of several draws it is `over_draws`.
    sliced : DataFrame, optional
        From `widthprune.studies.packaged.slicegpt`; sizes are those without embeddings.
    damage : str
        The perplexity that says how damaged a model is.

    Returns
    -------
    DataFrame
        ``criterion`` ("SLICEGPT" among them), ``pruning_pct`` whose size it has, ``task``, ``value``, ``stderr``,
        ``damage``.
    """
    rows = headline(measured)[["criterion", "pruning_pct", "task", "value", "stderr"]]
    if sliced is not None:
        other = sliced[(sliced["counted"] == "without embeddings") & is_headline(sliced)]
        rows = pd.concat([rows, other.assign(criterion="SLICEGPT")[list(rows)]])
    rows = rows.astype({"criterion": "object", "task": "object"})
    rows = _over_draws(rows, ["criterion", "pruning_pct", "task"])
    done = rows[rows["task"] == damage].set_index(["criterion", "pruning_pct"])["value"].rename("damage")
    rows = rows[rows["task"] != damage].join(done, on=["criterion", "pruning_pct"], how="inner")
    return rows.reset_index(drop=True)


def _over_draws(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    found = [
        (*key, *over_draws(own["value"], own["stderr"], log=not TASKS[key[-1]].higher_is_better))
        for key, own in rows.groupby(keys)
    ]
    return pd.DataFrame(found, columns=[*keys, "value", "stderr"]).astype(rows.dtypes)


def scores_table(table: pd.DataFrame) -> pd.DataFrame:
    """What `sizes_and_scores` gives as text: a row a percentage and criterion, the damage and each benchmark with its error."""
    shown = table.assign(text=texts(table), criterion=table["criterion"].replace("none", "unpruned"))
    tasks = [task for task in TASKS if task in set(shown["task"])]
    keys = ["pruning_pct", "criterion"]
    wide = shown.pivot(index=keys, columns="task", values="text").fillna("not measured")[tasks]
    wide = wide.rename(columns={task: TASKS[task].label for task in tasks})
    wide.insert(0, "prose perplexity", shown.groupby(keys)["damage"].first().map("{:,.1f}".format))
    wide = wide.rename(index="{:g}%".format, level="pruning_pct")
    return wide.rename_axis(index=["pruned", "criterion"], columns=None)


def plot_scores_at_damage(
    table: pd.DataFrame, tasks: Sequence[str], *, floors: Mapping[str, float] | None = None
) -> np.ndarray:
    """Benchmarks over the damage done to prose, a row of panels each, a line a criterion from the unpruned model on.

    Each line has its colour and name in one panel of a row, and is grey in the others, so that none names more than can be told apart.

    Parameters
    ----------
    table : DataFrame
        From `sizes_and_scores`.
    tasks : sequence of str
    floors : mapping of str to float, optional
        What a responder that knows nothing scores.

    Returns
    -------
    array of Axes, shape (tasks, panels)
    """
    floors = {} if floors is None else floors
    there = set(table["criterion"]) - {"none"}
    names = [name for name in dict.fromkeys([*REGISTRY, *sorted(there)]) if name in there]
    parts = split_names(names, beside=min(1, len(floors)))
    shape = dict(figsize=(9, 2.3 * len(tasks)), sharex=True, sharey="row", squeeze=False)
    _, grid = plt.subplots(len(tasks), len(parts), layout="constrained", **shape)
    for task, axes in zip(tasks, grid, strict=True):
        rows = table[table["task"] == task].sort_values("pruning_pct")
        keep_rows(grid[0, 0], rows)
        lines = {name: rows[rows["criterion"].isin(["none", name])] for name in names}
        for ax, part in zip(axes, parts, strict=True):
            for own in lines.values():
                ax.plot(own["damage"], own["value"], color="0.85", linewidth=1, zorder=0)
            for i, name in enumerate(part):
                own, style = lines[name], dict(color=PALETTE[i], marker=MARKERS[i], markersize=4)
                if len(own) > 1:  # elsewhere than unpruned
                    ax.errorbar(own["damage"], own["value"], own["stderr"], label=name, **style)
            if task in floors:
                ax.axhline(floors[task], color="0.5", linestyle=":", label="knows nothing")
            ax.set(xscale="log")
        if task in floors:
            nothing = {"task": [task], "criterion": "knows nothing", "value": floors[task]}
            keep_rows(grid[0, 0], pd.DataFrame(nothing))
        axes[0].set_ylabel(TASKS[task].label)
    for ax in grid[-1]:
        ax.set_xlabel("perplexity of the prose")
    for ax in grid.flat:  # limits are those of all panels
        label_lines(ax)
    return grid
