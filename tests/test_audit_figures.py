"""What the audit's figures show is read back from their Axes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from widthprune import WidthPruneError, published
from widthprune.audit.association import associations
from widthprune.audit.figures import (
    above_floor,
    plot_above_floor,
    plot_draws,
    plot_instruction_panels,
    plot_instruction_types,
    plot_pairs,
    plot_rises,
    plot_same_damage,
    rise_below_floors,
)
from widthprune.audit.floors import FLOOR_NAMES
from widthprune.report.figures import plot_dichotomy, plot_paradox, plot_sweep
from widthprune.report.floor_lines import FLOOR_STYLES
from widthprune.report.results import sweep

FLOOR = {
    "mmlu": {"blind floor": 0.272},
    "ifeval": {"blind floor": 0.14, "prompt-reading floor": 0.277},
    "truthfulqa_mc2": {"blind floor": 0.4486},
    "wikitext": {"blind floor": 747.8},
}


@pytest.fixture(scope="module")
def paper():
    table = published("capabilities")
    return table[~table["model"].str.contains("Instruct")]


def test_distance_from_the_floor(paper):
    rows = above_floor(sweep(paper, "Llama-3.2-3B"), FLOOR)
    assert set(rows["task"]) == {"mmlu", "ifeval", "truthfulqa_mc2"}  # a perplexity has no such distance
    start = rows.query("task == 'mmlu' and pruning_pct == 0")["above"].item()
    assert start == pytest.approx(0.5605 - 0.272)
    fragile, robust = plot_above_floor(sweep(paper, "Llama-3.2-3B"), FLOOR)
    assert fragile.containers[0][0].get_ydata()[0] == pytest.approx(start)
    # IFEval stays below the responder that reads the prompt and nothing else.
    echo = at(robust, "-.")
    assert echo == [pytest.approx(0.277 - 0.14)] and max(robust.containers[0][0].get_ydata()) < echo[0]
    with pytest.raises(WidthPruneError, match="of one model"):
        plot_above_floor(paper, FLOOR)


def at(ax, style):
    """Heights of an Axes' lines of one style."""
    return [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == style]


def test_how_much_of_a_rise_is_below_each_floor_by_hand(paper):
    found = rise_below_floors(paper, FLOOR).set_index(["model", "task", "floor"])
    # From 0.1035 to 0.1811, of which up to 0.14; the echo lies above the whole rise.
    part = found.loc[("Llama-3.2-1B", "ifeval", "blind floor")]
    assert part["below_pct"] == pytest.approx(100 * (0.14 - 0.1035) / (0.1811 - 0.1035))
    assert part["at"] == 30
    assert found.xs("prompt-reading floor", level="floor")["below_pct"].tolist() == [100, 100]


def test_floors_and_controls_are_named_lines_of_different_style(paper):
    rows = [
        ("ifeval", "one word repeated", "blind", "prompt_level_strict_acc", 0.12),
        ("ifeval", "prompt echoed", "reading", "prompt_level_strict_acc", 0.25),
        ("truthfulqa_mc2", "uniform", "blind", "acc", 0.45),
        ("truthfulqa_mc2", "shortest", "control", "acc", 0.49),
    ]
    floors = pd.DataFrame(rows, columns=["task", "responder", "kind", "metric", "value"]).assign(n=500)
    ifeval, mc2 = plot_rises(paper, floors)
    assert {text.get_text() for text in ifeval.texts} == {"blind floor", "prompt-reading floor"}
    assert [text.get_text() for text in mc2.texts] == ["blind floor", "control: shortest"]
    assert "100% below the prompt-reading floor" in ifeval.get_legend().texts[0].get_text()
    assert (at(ifeval, ":"), at(ifeval, "-.")) == ([0.12], [0.25])
    # Names that floors have and styles that figures have are the same.
    assert set(FLOOR_STYLES) == set(FLOOR_NAMES.values())
    assert ifeval.get_ylabel() == "prompts followed, strict"


def test_pairs_show_r_and_what_the_ratio_leaves(paper):
    found = associations(paper)
    ax = plot_pairs(found)
    assert [tick.get_text() for tick in ax.get_yticklabels()][:1] == ["ARC-Challenge"]
    assert len(ax.containers) == 2 and len(ax.containers[0][0].get_xdata()) == 9


def test_same_damage_draws_a_line_a_draw():
    rows = [("PPM", None, 10, 0.5), ("PPM", None, 99, 0.3)]
    rows += [("RANDOM", seed, p, v) for seed in (0, 1) for p, v in ((10, 0.5), (99, 0.4))]
    found = pd.DataFrame(rows, columns=["criterion", "neuron_seed", "perplexity", "value"])
    ax = plot_same_damage(found, task="pocket_facts", floors={"pocket_facts": {"blind floor": 0.25}})
    assert len(ax.lines) == 4 and ax.lines[-1].get_ydata()[0] == 0.25
    assert ax.get_ylabel() == "accuracy"
    assert ax.get_legend_handles_labels()[1] == ["PPM", "RANDOM"]
    # Without the other a criterion looks as it did.
    alone = plot_same_damage(
        found[found["criterion"] == "RANDOM"], task="pocket_facts", ax=plt.figure().gca()
    )
    for look in ("get_color", "get_marker"):
        assert getattr(alone.lines[0], look)() == getattr(ax.lines[1], look)() != getattr(ax.lines[0], look)()


def test_instruction_types():
    rows = [("share_a:b", 0.0, 0.5), ("share_a:b", 40.0, 0.75), ("words", 0.0, 9.0)]
    table = pd.DataFrame(rows, columns=["metric", "pruning_pct", "value"])
    ax = plot_instruction_types(table)
    assert [text.get_text() for text in ax.texts] == ["0.50", "0.75"]
    with pytest.raises(WidthPruneError, match="no share_"):
        plot_instruction_types(table[table["metric"] == "words"])
    two = pd.concat([table.assign(model="a"), table.assign(model="b")])
    assert [ax.get_title() for ax in plot_instruction_panels(two, ["model"])] == ["a", "b"]
    assert plot_instruction_panels(table[table["metric"] == "words"].assign(model="a"), ["model"]) == []


def test_floors_are_lines_in_the_figures_of_the_chapters(paper):
    table = sweep(paper, "Llama-3.2-3B")
    fragile, _, robust = plot_dichotomy(table, floors=FLOOR)
    # MMLU's floor in % of the unpruned score; WikiText's as an inverse, like its line.
    shares = [100 * 0.272 / 0.5605, 100 * 9.2628 / 747.8]
    np.testing.assert_allclose(sorted(at(fragile, ":")), sorted(shares), rtol=1e-3)
    assert at(robust, "-.") == [pytest.approx(100 * 0.277 / 0.0943, rel=0.01)]
    (legend,) = fragile.figure.legends
    assert [text.get_text().split(",")[0] for text in legend.texts] == ["blind floor", "prompt-reading floor"]
    # Without colour: a floor ends in its benchmark's marker.
    ends = {line.get_marker() for line in fragile.lines if line.get_fillstyle() == "none"}
    assert len(ends) == 2
    ax = plot_sweep(table, task="mmlu", floors=FLOOR, ax=plt.figure().gca())
    assert at(ax, ":") == [0.272]
    ax = plot_paradox(table, floors=FLOOR, ax=plt.figure().gca())
    assert sum(line.get_linestyle() == ":" for line in ax.lines) == 2


def test_draws_of_random_neurons_are_a_mean_and_a_range():
    rows = [(0, "none", None, 0.9), (10, "PPM", None, 0.4)]
    rows += [(10, "RANDOM", draw, value) for draw, value in enumerate((0.5, 0.7, 0.9))]
    table = pd.DataFrame(rows, columns=["pruning_pct", "criterion", "neuron_seed", "value"])
    table = table.assign(task="pocket_facts", metric="acc", model="m")
    ax = plot_draws(table, task="pocket_facts", floors={"pocket_facts": {"blind floor": 0.25}})
    ppm, random, *_ = ax.lines
    assert list(ppm.get_ydata()) == [0.9, 0.4] and list(random.get_ydata()) == pytest.approx([0.9, 0.7])
    band = ax.collections[1].get_paths()[0].vertices
    assert {0.5, 0.9} <= set(band[band[:, 0] == 10, 1])
