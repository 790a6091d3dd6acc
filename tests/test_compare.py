"""Comparing two runs: by hand, mirrored, and what cannot be compared."""

import io
import json
import math
import os
import sys

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from widthprune import WidthPruneError, load_results
from widthprune.__main__ import main
from widthprune.report.figures import plot_comparison
from widthprune.report.runs import write_run
from widthprune.reruns.compare import compare_runs, parameters_that_differ

SETTINGS = {
    "model": "one",
    "criterion": "none",
    "pruning_pct": 0.0,
    "intermediate_size": 88,
    "expansion_ratio": 2.75,
    "task": "pocket_facts",
    "num_fewshot": 0,
    "limit": None,
    "seed": 0,
    "dtype": "auto",
}
PRUNED = {"criterion": "PPM", "pruning_pct": 20.0, "intermediate_size": 71}


def write(root, value, stderr, **changes):
    metrics = [{"metric": "acc", "value": value, "stderr": stderr, "n": 100}]
    write_run(root, SETTINGS | changes, metrics, {"device": "cpu: test", "duration_s": 1.0})


@pytest.fixture
def runs(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    write(a, 0.50, 0.03)
    write(a, 0.40, 0.03, **PRUNED)
    write(b, 0.60, 0.04, model="two")
    write(b, 0.30, 0.04, model="two", criterion="PPM", pruning_pct=50.0)
    return a, b


def test_a_difference_by_hand(runs):
    table = compare_runs(*map(load_results, runs))
    (row,) = table[table["pruning_pct"] == 0].to_dict("records")
    assert row["difference"] == pytest.approx(0.1) and row["stderr"] == pytest.approx(0.05)
    assert row["z"] == pytest.approx(2.0) and (row["model_a"], row["model_b"]) == ("one", "two")


def test_perplexities_are_compared_by_their_logarithms(tmp_path, capsys):
    for run, value in (("a", 10.0), ("b", 30.0)):
        metrics = [{"metric": "word_perplexity", "value": value, "stderr": 3.0, "n": 100}]
        write_run(
            tmp_path / run, SETTINGS | {"task": "wikitext"}, metrics, {"device": "cpu", "duration_s": 1.0}
        )
    (row,) = compare_runs(load_results(tmp_path / "a"), load_results(tmp_path / "b")).to_dict("records")
    assert row["difference"] == pytest.approx(math.log(3))
    assert row["z"] == pytest.approx(math.log(3) / math.hypot(0.3, 0.1))
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "log 1.099" in capsys.readouterr().out


def test_what_one_run_has_alone_stands_without_a_difference(runs):
    table = compare_runs(*map(load_results, runs)).set_index("pruning_pct")
    assert table["value_a"][20] == 0.4 and pd.isna(table["value_b"][20]) and pd.isna(table["difference"][20])
    assert pd.isna(table["value_a"][50]) and table["value_b"][50] == 0.3


def test_what_was_measured_in_the_chat_template_is_compared_with_its_like(runs, capsys):
    a, b = runs
    assert main(["compare", str(a), str(b)]) == 0
    assert "chat template" not in capsys.readouterr().out
    write(a, 0.20, 0.03, chat_template=True)
    write(b, 0.10, 0.04, chat_template=True, model="two")
    assert main(["compare", str(a), str(b)]) == 0
    assert "chat template" in capsys.readouterr().out
    table = compare_runs(*map(load_results, runs))
    differences = table[table["pruning_pct"] == 0].set_index("chat_template")["difference"]
    assert differences.to_dict() == pytest.approx({False: 0.1, True: -0.1})
    labels = [label.get_text() for label in plot_comparison(table).get_yticklabels()]
    assert labels == ["pocket facts, 0%", "pocket facts, 0%, chat template"]
    plt.close("all")


def test_turned_round_it_changes_its_sign(runs):
    one, other = (compare_runs(*map(load_results, pair)) for pair in (runs, runs[::-1]))
    pd.testing.assert_series_equal(one["z"], -other["z"])


def test_without_errors_there_is_a_difference_and_no_z(tmp_path):
    write(tmp_path / "a", 0.5, None)
    write(tmp_path / "b", 0.7, None)
    (row,) = compare_runs(load_results(tmp_path / "a"), load_results(tmp_path / "b")).to_dict("records")
    assert row["difference"] == pytest.approx(0.2) and math.isnan(row["z"])


def test_the_figure_draws_what_has_an_error(runs):
    ax = plot_comparison(compare_runs(*map(load_results, runs)))
    (line,) = [line for line in ax.lines if line.get_marker() == "o"]
    assert line.get_xdata() == pytest.approx([2.0])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["pocket facts, 0%"]
    plt.close(ax.figure)


def test_the_command_prints_and_draws(runs, tmp_path, capsys):
    for run, model in zip(runs, ("one", "two"), strict=True):
        (run / "results").mkdir()
        for folder in [path for path in run.iterdir() if path.name in ("one", "two")]:
            folder.rename(run / "results" / folder.name)
        record = {
            "parameters": {"model": model},
            "model_revision": "",
            "data": {},
            "versions": {"torch": "2"},
        }
        (run / "record.json").write_text(json.dumps(record))
    figure = tmp_path / "c.png"
    assert main(["compare", *map(str, runs), "--figure", str(figure)]) == 0
    printed = capsys.readouterr().out
    assert "0.100 ± 0.050" in printed and "+2.0" in printed and "differs: model: one and two" in printed
    assert "differs: torch" not in printed and figure.stat().st_size > 0
    plt.close("all")


WHOLE = {"parameters": {}, "model_revision": "", "data": {}, "versions": {}}
STRANGE = ["", "{", "[]", "null", "[" * 100_000, "{}", "\ud800", json.dumps(WHOLE | {"data": []})]


@pytest.mark.parametrize("text", STRANGE)
def test_a_strange_record_is_one_line(text, runs, capsys):
    for run, content in zip(runs, (json.dumps(WHOLE), text), strict=True):
        (run / "record.json").write_text(content, errors="surrogatepass")
    with pytest.raises(WidthPruneError) as error:
        parameters_that_differ(*runs)
    assert "\n" not in str(error.value)


def test_a_record_sends_nothing_to_the_terminal(runs):
    for run, value in zip(runs, ("plain", "\x1b[31m\n"), strict=True):
        (run / "record.json").write_text(json.dumps(WHOLE | {"parameters": {"suite": value}}))
    assert parameters_that_differ(*runs) == [r"differs: suite: plain and \x1b[31m\n"]


def test_runs_with_nothing_in_common(tmp_path):
    write(tmp_path / "a", 0.5, 0.1)
    write(tmp_path / "b", 0.5, 0.1, **PRUNED)
    with pytest.raises(WidthPruneError, match="the runs have no number in common"):
        compare_runs(load_results(tmp_path / "a"), load_results(tmp_path / "b"))


def test_several_limits_in_one_run(runs):
    write(runs[0], 0.5, 0.1, limit=3)
    with pytest.raises(WidthPruneError, match="run_a has several results for pocket_facts at 0% none"):
        compare_runs(*map(load_results, runs))


def test_several_models_in_one_run(runs):
    write(runs[1], 0.5, 0.1)
    with pytest.raises(WidthPruneError, match=r"run_b holds several models \(one, two\)"):
        compare_runs(*map(load_results, runs))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("nowhere",), "run_b must be a folder that can be read, got 'nowhere'"),
        ((".", "--figure", "c.txt"), "figure must end in .png, .svg, .pdf, got c.txt"),
    ],
)
def test_bad_input(more, message, runs, capsys):
    assert main(["compare", str(runs[0]), *more]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_terminal_cannot_write_is_written_out(encoding, tmp_path, monkeypatch):
    """A table of `compare` holds a plus-minus sign, and a folder of results any name."""
    for run in ("Zoë→a", "b"):
        write(tmp_path / run, 0.2, 0.03)
    shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", shown)
    assert main(["compare", str(tmp_path / "Zoë→a"), str(tmp_path / "b")]) == 0
    assert "0.200 ± 0.030".encode(encoding, "backslashreplace") in shown.buffer.getvalue()


def test_a_record_that_is_a_pipe_is_not_waited_for(runs):
    for folder in runs:
        (folder / "results").mkdir()
        os.mkfifo(folder / "record.json")
    with pytest.raises(WidthPruneError, match="holds no whole record.json"):
        parameters_that_differ(*runs)


def test_a_figure_is_written_whole_or_not_at_all(runs, tmp_path, capsys, monkeypatch):
    for kind in ("svg", "pdf", "png"):
        figure = tmp_path / "new" / kind / f"x.{kind}"
        assert main(["compare", *map(str, runs), "--figure", str(figure)]) == 0 and figure.stat().st_size
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert main(["compare", *map(str, runs), "--figure", str(tmp_path / "y.svg")]) == 2
    error = capsys.readouterr().err
    assert "the figure cannot be drawn (ValueError" in error and error.count("\n") == 1
    assert not (tmp_path / "y.svg").exists()


@pytest.mark.parametrize("words", [["compare", "{run}", "{run}"], ["contribute", "{run}", "--name", "A"]])
def test_a_run_whose_record_is_gone(words, runs, capsys):
    """Else whatever JSON lies in its folder would be taken for results."""
    run, _ = runs
    (run / "plan.json").write_text("{}")
    assert main([word.format(run=run) for word in words]) == 2
    said = f"{run} is the folder of a rerun without its record.json: give that rerun's command again, or name {run}/results"
    assert capsys.readouterr().err == f"widthprune: error: {said}\n"
