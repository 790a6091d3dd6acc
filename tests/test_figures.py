"""What a figure shows is read back from its Axes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from widthprune import WidthPruneError, published
from widthprune.report import figures
from widthprune.report.results import sweep, tidy
from widthprune.report.tasks import METRICS, TASKS, headline


@pytest.fixture(scope="module")
def capabilities():
    return published("capabilities")


def line(ax, label):
    """The (x, y) data of the line with this label in the legend."""
    container = next(c for c in ax.containers if c.get_label() == label)
    return container[0].get_data()


def test_dichotomy_shows_quality_kept(capabilities):
    fragile, continued, robust = figures.plot_dichotomy(sweep(capabilities, "Llama-3.2-3B"))
    x, mmlu = line(fragile, "MMLU")
    assert list(x) == [0, 10, 20, 30, 40, 50, 60]
    assert mmlu[[0, 6]] == pytest.approx([100, 46.2], abs=0.1)  # -53.8% at 60%, as the paper prints
    assert line(robust, "IFEval")[1][4] == pytest.approx(174.4, abs=0.1)
    # A perplexity enters as its inverse: 9.2628 unpruned, 11.8759 at 10%.
    assert line(fragile, "1 / WikiText perplexity")[1][1] == pytest.approx(100 * 9.2628 / 11.8759)
    # No panel names more than five.
    assert [len(ax.containers) for ax in (fragile, continued, robust)] == [5, 4, 4]
    assert [ax.get_title() for ax in (fragile, robust)] == ["Fragile: knowledge", "Robust: behaviour"]
    names = [text.get_text() for text in robust.texts]
    assert sorted(names) == ["IFEval", "MuSR", "TruthfulQA-MC1", "TruthfulQA-MC2"] and not robust.get_legend()
    assert "2.67" in fragile.get_xticklabels()[0].get_text()


def test_measured_rows_are_drawn_by_the_same_function(capabilities):
    measured = sweep(capabilities, "Llama-3.2-1B").assign(source="measured", stderr=0.01, n=100, limit=100)
    fragile, *_ = figures.plot_dichotomy(measured)
    assert line(fragile, "MMLU")[1][0] == pytest.approx(100)


def test_paradox_states_r_p_and_n(capabilities):
    ax = figures.plot_paradox(sweep(capabilities, "Llama-3.2-3B"))
    assert "r = -0.864, p = 0.012, n = 7" in ax.get_title()
    assert {t.get_text() for t in ax.texts} == {f"{pct}%" for pct in range(0, 70, 10)}


def test_criteria_marks_an_overflow():
    table = published("criteria").assign(label=lambda rows: rows["paper_version"])
    ax = figures.plot_criteria(table, task="wikitext")
    assert [t.get_text() for t in ax.texts] == ["inf (overflow)"] * 2
    assert [t.get_text() for t in ax.get_yticklabels()] == ["unpruned", "PPM", "MAW", "L2", "VOW", "PON"]
    assert ax.get_xscale() == "log"


def test_published_and_measured_models_share_panels(capabilities):
    tasks = ["ifeval", "mmlu", "pocket_facts"]
    chosen = capabilities[capabilities["model"].str.startswith("Llama-3.2-1B")]
    own = chosen[chosen["task"] == "mmlu"].assign(source="measured", stderr=0.01)
    own = own[own["model"] == "Llama-3.2-1B"].assign(model="a model of ours")
    axes = figures.plot_models(pd.concat([chosen, own]), tasks=tasks)
    assert [ax.get_title() for ax in axes] == ["IFEval", "MMLU"]  # of the third there is nothing
    assert list(line(axes[0], "Llama-3.2-1B-Instruct")[1]) == [0.3641, 0.2218, 0.146, 0.1368]
    lines = {c.get_label(): c[0] for c in axes[1].containers}
    assert lines["a model of ours"].get_linestyle() == "-" and lines["Llama-3.2-1B"].get_linestyle() == "--"
    # One colour a model, though the first panel lacks one.
    first = {c.get_label(): c[0] for c in axes[0].containers}
    assert all(first[name].get_color() == lines[name].get_color() for name in first)
    assert first["Llama-3.2-1B"].get_color() != lines["a model of ours"].get_color()


def test_paradox_has_bars_where_errors_are_known(capabilities):
    one = sweep(capabilities, "Llama-3.2-3B").assign(stderr=0.01)
    ax = figures.plot_paradox(one)
    (bars,) = ax.containers
    horizontal, vertical = (c.get_segments() for c in bars[2])
    assert len(horizontal) == len(vertical) == 7
    assert np.ptp(horizontal[0][:, 0]) == pytest.approx(0.02)


def test_functions_draw_on_the_axes_they_are_given(capabilities):
    _, ax = plt.subplots()
    assert figures.plot_sweep(capabilities, task="boolq", ax=ax) is ax
    assert figures.plot_paradox(sweep(capabilities, "Llama-3.2-1B"), ax=plt.figure().gca()) is plt.gca()


def test_axes_are_words(capabilities):
    assert {task.metric for task in TASKS.values()} | set(capabilities["metric"]) <= set(METRICS)
    one = sweep(capabilities, "Llama-3.2-1B")
    by_criterion = published("criteria").assign(label="published")
    axes = [
        *figures.plot_models(one, tasks=["ifeval", "piqa"]),
        figures.plot_paradox(one, ax=plt.figure().gca()),
        figures.plot_criteria(by_criterion, task="wikitext", ax=plt.figure().gca()),
    ]
    said = [label for ax in axes for label in (ax.get_xlabel(), ax.get_ylabel())]
    assert "prompts followed, strict" in said and not [
        label for label in said if "_" in label.replace("d_ff", "")
    ]


def test_every_published_task_has_a_headline(capabilities):
    rows = headline(capabilities)
    assert rows.groupby(["model", "pruning_pct", "task"]).size().eq(1).all()
    assert len(rows) == 13 * 7 * 2 + 7 * 4
    assert set(rows["task"]) <= set(TASKS)


def test_bad_tables(capabilities):
    with pytest.raises(WidthPruneError, match="of one model, got Llama-3.2-1B, .* select one"):
        figures.plot_dichotomy(capabilities)
    with pytest.raises(WidthPruneError, match="no word_perplexity of wikitext"):
        figures.plot_criteria(capabilities[capabilities["task"] == "mmlu"], task="wikitext")
    with pytest.raises(WidthPruneError, match="several results for arc_challenge"):
        headline(pd.concat([capabilities, capabilities]))
    unknown = tidy(pd.DataFrame([dict(task="chess", metric="elo", value=1.0)]))
    with pytest.raises(WidthPruneError, match="task must be one of .* got chess"):
        headline(unknown)


def test_an_infinite_perplexity_keeps_the_panel_readable():
    rows = [
        dict(model="m", criterion="PPM", pruning_pct=p, task="wikitext", metric="word_perplexity", value=v)
        for p, v in [(0, 10.0), (10, np.inf)]
    ]
    fragile, _ = figures.plot_dichotomy(tidy(pd.DataFrame(rows)))
    assert list(line(fragile, "1 / WikiText perplexity")[1]) == [100, 0]


def test_lines_may_have_other_names_than_their_models(capabilities):
    (ax,) = figures.plot_models(
        capabilities, tasks=["boolq"], names={"Llama-3.2-1B": "the small one"}, axes=plt.figure().gca()
    )
    assert {text.get_text() for text in ax.texts} == {"the small one", "Llama-3.2-3B"}


def test_a_legend_of_markers_lies_on_no_values():
    table = published("criteria").assign(label=lambda rows: rows["paper_version"])
    _, ax = plt.subplots(layout="constrained")
    figures.plot_criteria(table, task="wikitext", ax=ax)
    ax.figure.draw_without_rendering()
    assert (
        not ax.get_legend()
        .get_window_extent()
        .overlaps(ax.get_tightbbox(for_layout_only=True, bbox_extra_artists=[ax.xaxis]))
    )
