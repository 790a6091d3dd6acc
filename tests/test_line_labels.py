"""Names stand at their lines' ends, in their order, and never over one another."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from widthprune.report.line_labels import label_lines, spread
from widthprune.report.panels import panel_axes, ratio_ticks


@pytest.mark.parametrize("places", [[0.5, 0.5, 0.5], [0.1, 0.11, 0.9], [0.0, 0.3, 0.6], [0.2], []])
def test_places_keep_their_order_and_their_distance(places):
    moved = spread(np.array(places), 0.1)
    assert (np.diff(moved) > 0.1 - 1e-12).all()
    assert moved.mean() == pytest.approx(np.mean(places)) if len(places) else len(moved) == 0
    if (np.diff(places) >= 0.1).all():
        assert np.allclose(moved, places)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_each_line_has_its_name_and_no_name_lies_on_another(scale):
    figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    for i, end in enumerate([2.0, 2.01, 2.02, 30.0]):
        ax.errorbar([0, 10, 20], [1, 5, end], [0.1, 0.1, np.nan], label=f"line {i}")
    ax.plot([0, 20], [np.nan, np.nan], label="nowhere")
    ax.plot([0, 20], [3, 3])  # without a name
    ax.axhline(9, label="across")
    ax.set_yscale(scale)
    label_lines(ax)
    figure.draw_without_rendering()
    names = [text for text in ax.texts if text.get_text()]
    assert any(text.arrow_patch for text in names)
    assert [text.get_text() for text in names] == [*(f"line {i}" for i in range(3)), "across", "line 3"]
    # Those that lie beside their ends need no line to lead to them.
    assert all(text.arrow_patch is None for text in names[-2:])
    # Those that lead to the others are not taken for lines of data, which are solid and coloured.
    for leader in (text.arrow_patch for text in names[:-2] if text.arrow_patch):
        red, green, blue, _ = leader.get_edgecolor()
        assert leader.get_linestyle() not in ("-", "solid") and red == green == blue
    boxes = [Text.get_window_extent(text) for text in names]  # without the line that leads to it
    assert all(below.y1 <= above.y0 + 1 for below, above in zip(boxes, boxes[1:], strict=False))
    # Right of the panel, and within the figure.
    assert all(box.x0 > ax.bbox.x1 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert ax.get_legend() is None
    plt.close(figure)  # of numbers that are nobody's


def test_names_move_with_the_limits_that_panels_share():
    figure, (left, right) = plt.subplots(1, 2, sharey=True, layout="constrained")
    left.plot([0, 1], [0, 1], label="low")
    label_lines(left)
    right.plot([0, 1], [0, 10], label="high")
    label_lines(right)
    (low,), (high,) = left.texts, right.texts
    assert low.xyann[1] < 0.2 < 0.9 < high.xyann[1]
    plt.close(figure)


def test_panels_are_as_many_in_a_row_as_asked():
    axes = panel_axes(5, columns=3, ylabel="what all show")
    assert len(axes) == len(axes[0].figure.axes) == 5 and axes[0].get_gridspec().ncols == 3
    assert axes[0].figure.get_supylabel() == "what all show"
    plt.close(axes[0].figure)


def test_axes_that_are_given_are_drawn_on_and_the_first_says_what_all_show():
    figure, grid = plt.subplots(2, 2)
    assert panel_axes(4, grid, ylabel="what all show").tolist() == grid.ravel().tolist()
    assert panel_axes(1, grid[0, 1]).tolist() == [grid[0, 1]]
    assert [ax.get_ylabel() for ax in grid.flat] == ["what all show", "", "", ""]
    assert not figure.get_supylabel() and figure.axes == grid.ravel().tolist()
    plt.close(figure)


def apart(figure, labels):
    """The texts of labels of which none lies on the next."""
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 < right.x0 for left, right in zip(boxes, boxes[1:], strict=False))
    return [label.get_text() for label in labels]


@pytest.mark.parametrize("width", [2, 3, 9])
def test_names_of_ticks_never_lie_on_each_other(width):
    figure, ax = plt.subplots(figsize=(width, 2.5), layout="constrained")
    pcts = [0, 1, 2, 3, 5, 7, 10, 17.45, 20, 30, 40, 45.1234, 50, 60]
    rows = pd.DataFrame({"pruning_pct": pcts, "expansion_ratio": [4 * (1 - pct / 100) for pct in pcts]})
    ax.plot(pcts, pcts)
    ratio_ticks(ax, rows)
    assert ax.get_xticks().tolist() == pcts
    ratios = apart(figure, [label for label in ax.get_xticklabels() if "\n" in label.get_text()])
    assert ratios[0] == "0\n4.00" and len(ratios) > (2 if width > 2 else 1)
    # Of two models that differ no one ratio stands below a tick.
    ratio_ticks(ax, pd.concat([rows, rows.assign(expansion_ratio=rows["expansion_ratio"] * 2)]))
    named = apart(figure, [label for label in ax.get_xticklabels() if label.get_text()])
    # Whole tens come first.
    assert set(named) >= {"0", "10", "20", "30", "40", "50", "60"} or width < 3
    assert ("7" in named) == ("45.1234" in named) == (width == 9)
    plt.close(figure)
