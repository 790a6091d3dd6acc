"""The figure of the front page and those of the findings, drawn from what the whole book shows."""

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import pandas as pd
from execute import FIGURES

from widthprune.audit.figures import plot_draws
from widthprune.audit.floors import floor_lines, load_floors
from widthprune.efficiency.analysis import decompose, summarize
from widthprune.efficiency.figures import plot_decomposition
from widthprune.report.drawn import drawn_rows, keep_rows
from widthprune.report.figures import MARKERS, PALETTE, plot_models
from widthprune.report.line_labels import label_lines
from widthprune.report.published import published
from widthprune.report.results import load_results, one_sweep

BASE, SMALL, GEMMA = ["Llama-3.2-1B", "Llama-3.2-3B"], "smollm2-135m-instruct", "gemma3-270m"
LARGE = "qwen2.5-coder-1.5b-instruct"


def save_figures(results_dir: str | Path, folder: Path) -> list[Path]:
    """Draw as SVG files into ``folder`` every figure that the pages there, which are no notebooks, show.

    Beside each lie its rows, as CSV. Returns the paths of the pictures.
    """
    measured, floors = load_results(results_dir), floor_lines(load_floors())
    pages = "".join(page.read_text(encoding="utf-8") for page in folder.glob("*.md"))
    drawings = {
        "dichotomy": lambda: dichotomy(measured, floors),
        "template": lambda: template(measured, floors),
        "control": lambda: control(measured),
        "criteria": lambda: criteria(measured),
        "energy": energy,
        "latency": latency,
    }
    paths = {folder / f"{name}.svg": draw for name, draw in drawings.items() if f"{name}.svg" in pages}
    with plt.rc_context(fname=FIGURES):
        for path, draw in paths.items():
            figure = draw()
            # Without a date the same numbers are the same file.
            figure.savefig(path, metadata={"Date": None})
            drawn_rows(figure).to_csv(path.with_suffix(".csv"), index=False)
            plt.close(figure)
    return list(paths)


def save_card(results_dir: str | Path, path: Path) -> None:
    """The front page's figure as a PNG of the size in which links are previewed, 1200 by 630 pixels."""
    figure = dichotomy(load_results(results_dir), floor_lines(load_floors()))
    figure.suptitle("What does a language model lose when its width is pruned?")
    figure.set_size_inches(9, 4.725)
    # Without the version of the program the same numbers are the same file.
    figure.savefig(path, dpi=1200 / 9, metadata={"Software": None})
    plt.close(figure)


def dichotomy(measured: pd.DataFrame, floors: dict) -> plt.Figure:
    """A benchmark of knowledge beside one of behaviour: published and measured models, and both floors."""
    paper = published("capabilities")
    ours = measured[measured["criterion"].isin(["none", "PPM"]) & ~measured["chat_template"]]
    rows = [paper[paper["model"].isin(BASE)], one_sweep(ours[ours["model"].isin([SMALL, GEMMA, LARGE])])]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    plot_models(pd.concat(rows), tasks=["mmlu", "ifeval"], floors=floors, axes=axes)
    axes[0].set(title="Knowledge: MMLU", ylabel="share answered right")
    axes[1].set(title="Behaviour: IFEval", ylabel="share of prompts followed")
    return figure


def template(measured: pd.DataFrame, floors: dict) -> plt.Figure:
    """One model's instructions with and without its chat template."""
    rows = measured[(measured["model"] == SMALL) & measured["criterion"].isin(["none", "PPM"])]
    names = {False: f"{SMALL}, without template", True: f"{SMALL}, in its template"}
    ways = [one_sweep(rows[rows["chat_template"] == way]).assign(model=name) for way, name in names.items()]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    # The model is named once: no panel has room for it at every line.
    figure.suptitle(SMALL, fontsize="medium")
    said = {name: name.removeprefix(f"{SMALL}, ") for name in names.values()}
    tasks = ["ifeval", "pocket_instructions"]
    plot_models(pd.concat(ways), tasks=tasks, floors=floors, names=said, axes=axes)
    for ax in axes:
        ax.set_ylabel("share of prompts followed")
    return figure


def control(measured: pd.DataFrame) -> plt.Figure:
    """Perplexity on prose of both models: the criterion against random neurons."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for ax, model in zip(axes, (SMALL, GEMMA), strict=True):
        rows = measured[(measured["model"] == model) & measured["criterion"].isin(["none", "PPM", "RANDOM"])]
        plot_draws(one_sweep(rows), task="pocket_prose", ax=ax)
        ax.set_title(model)
    return figure


def criteria(measured: pd.DataFrame) -> plt.Figure:
    """Perplexity on prose when 10% of the neurons are removed: what v1 describes beside what ran."""
    rows = measured[(measured["task"] == "pocket_prose") & (measured["metric"] == "word_perplexity")]
    rows = rows[rows["limit"].isna() & (rows["criterion"].isin(["PPM", "MAW"]) & (rows["pruning_pct"] == 10))]
    names = {"MAW": "MAW, as v1 describes it", "PPM": "PPM, as the code computes it"}
    wide = (
        one_sweep(rows)
        .pivot(index="model", columns="criterion", values="value")[list(names)]
        .rename(columns=names)
    )
    figure, ax = plt.subplots(figsize=(9, 2.6), layout="constrained")
    keep_rows(ax, one_sweep(rows))
    wide.plot.barh(ax=ax, color=PALETTE[:2])
    ax.set(xlabel="pocket prose perplexity, 10% of the neurons removed", ylabel="")
    ax.legend(title=None, frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def energy() -> plt.Figure:
    """Energy a token of the 1B model's single requests: as printed, and in joules."""
    rows = summarize(published("efficiency_runs")).query(
        "model == @BASE[0] and workload == 'mmlu_latency_b1'"
    )
    figure, ax = plt.subplots(figsize=(9, 3), layout="constrained")
    keep_rows(ax, rows)
    columns = {"j_per_token": "joules", "j_per_token_printed": "as printed, kg CO2eq read as kWh"}
    for i, (column, label) in enumerate(columns.items()):
        ax.plot(rows["pruning_pct"], rows[column], color=PALETTE[i], marker=MARKERS[i], label=label)
    ax.set(xlabel="neurons pruned, %", ylabel="energy a token, J", ylim=(0, None))
    label_lines(ax)
    return figure


def latency() -> plt.Figure:
    """Where the time of the 1B model's single requests comes from."""
    parts = decompose(summarize(published("efficiency_runs")))
    parts = parts[parts["model"] == BASE[0]]
    figure, axes = plt.subplots(
        1, parts["workload"].nunique(), figsize=(9, 3), sharey=True, layout="constrained"
    )
    plot_decomposition(parts, axes=axes)
    return figure
