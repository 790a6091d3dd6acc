"""The figure of the front page and those of the findings, drawn from what the whole book shows."""

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import pandas as pd

from widthprune.audit.figures import plot_draws
from widthprune.audit.floors import floor_lines, load_floors
from widthprune.report.figures import plot_models
from widthprune.report.published import published
from widthprune.report.results import load_results, one_sweep

BASE, SMALL, GEMMA = ["Llama-3.2-1B", "Llama-3.2-3B"], "smollm2-135m-instruct", "gemma3-270m"


def save_figures(results_dir: str | Path, folder: Path) -> list[Path]:
    """Draw every figure of the pages that are no notebooks as SVG files into ``folder``."""
    measured, floors = load_results(results_dir), floor_lines(load_floors())
    with plt.rc_context({"svg.hashsalt": "widthprune", "font.family": "sans-serif"}):
        drawn = {
            "dichotomy": dichotomy(measured, floors),
            "template": template(measured, floors),
            "control": control(measured),
        }
        paths = [folder / f"{name}.svg" for name in drawn]
        for path, figure in zip(paths, drawn.values(), strict=True):
            # Without a date the same numbers are the same file.
            figure.savefig(path, metadata={"Date": None})
            plt.close(figure)
    return paths


def dichotomy(measured: pd.DataFrame, floors: dict) -> plt.Figure:
    """A benchmark of knowledge beside one of behaviour: published and measured models, and both floors."""
    paper = published("capabilities")
    ours = measured[measured["criterion"].isin(["none", "PPM"]) & ~measured["chat_template"]]
    rows = [paper[paper["model"].isin(BASE)], one_sweep(ours[ours["model"].isin([SMALL, GEMMA])])]
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
    plot_models(pd.concat(ways), tasks=["ifeval", "pocket_instructions"], floors=floors, axes=axes)
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
