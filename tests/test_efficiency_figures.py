"""Figures of time: bars that end at the marks, and a limit below the measurement."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from widthprune import published
from widthprune.efficiency.analysis import split_published, summarize
from widthprune.efficiency.figures import plot_bandwidth_limit, plot_request_times, plot_tradeoff


def test_the_bars_meet_the_marks():
    parts = split_published(summarize(published("efficiency_runs").query("model == 'Llama-3.2-3B'")))
    axes = plot_request_times(parts)
    for ax in axes.flat:
        tops = [bar.get_y() + bar.get_height() for bar in ax.containers[1]]
        assert tops == pytest.approx(list(ax.lines[0].get_ydata()), rel=0.02)


def test_the_limit_is_drawn_beside_the_measurement():
    rows = [
        {"model": model, "batch_size": 1, "pruning_pct": pct, "metric": metric, "value": value}
        for model in "mn"
        for pct in (0, 40)
        for metric, value in (("ms_per_token_p50", 9.0), ("limit_ms_per_token", 4.0))
    ]
    axes = plot_bandwidth_limit(pd.DataFrame(rows))
    assert [ax.get_title() for ax in axes] == ["m", "n"]  # two lines a panel, however many models there are
    for ax in axes:
        measured, limit = ax.lines
        assert list(measured.get_ydata()) == [9, 9] and list(limit.get_ydata()) == [4, 4]


def test_a_figure_that_was_given_gets_no_label_of_its_own():
    summary = summarize(published("efficiency_runs").query("model == 'Llama-3.2-3B'"))
    own = plot_tradeoff(summary)
    assert own[0].figure.get_supylabel() and not own[0].get_ylabel()
    figure, given = plt.subplots(2, len(own) // 2)
    axes = plot_tradeoff(summary, axes=given)
    assert not figure.get_supylabel() and axes[0].get_ylabel() == own[0].figure.get_supylabel()
