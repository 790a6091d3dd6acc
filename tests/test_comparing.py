"""Criteria compared at equal damage: a case by hand, what is never extrapolated, and errors over seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from widthprune import WidthPruneError
from widthprune.studies.comparing import advantage, at_equal_damage, by_tier, contrasts, over_seeds, unpruned


def made(slopes=(("PPM", 2.0), ("RANDOM", 1.0)), seeds=(0, 1), wiggle=0.0):
    """Models whose loss rises by 0.1 for each 10% and whose score falls by 0.1 times a slope."""
    rows = []
    for seed in seeds:
        for name, slope in (("none", 0.0), *slopes):
            for pct in (0,) if name == "none" else (10, 20, 30):
                scores = {
                    "prose": 2.0 + seed + pct / 100,
                    "known": 1 - slope * pct / 100 - wiggle * seed * pct / 100,
                }
                rows += [
                    dict(kind="gated", seed=seed, stage="base", criterion=name, draw=0, pruning_pct=pct,
                         measure=measure, value=value)
                    for measure, value in scores.items()
                ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_line_by_hand():
    found = at_equal_damage(made(), "known", (0.05, 0.15, 0.25)).set_index(["criterion", "seed"])
    assert found.loc[("PPM", 0), "value"].tolist() == pytest.approx([0.9, 0.7, 0.5])
    assert found.loc[("RANDOM", 1), "value"].tolist() == pytest.approx([0.95, 0.85, 0.75])


def test_nothing_is_extrapolated():
    found = at_equal_damage(made(), "known", (0.2, 0.31))
    assert found.groupby("level")["value"].count().tolist() == [4, 0]
    # Levels that one of the two did not reach do not count.
    assert advantage(made(), "known", "PPM", "RANDOM", (0.2, 0.31)).tolist() == pytest.approx([-0.2] * 2)


def test_a_loss_that_falls_on_the_way_does_no_damage():
    table = made(seeds=(0,))
    at = (table["criterion"] == "PPM") & (table["pruning_pct"] == 20) & (table["measure"] == "prose")
    table.loc[at, "value"] = 2.05
    assert np.isfinite(at_equal_damage(table, "known", (0.05, 0.25))["value"]).all()


def test_over_seeds_agrees_with_scipy():
    values = [0.1, 0.3, 0.35]
    found = over_seeds(values)
    assert found["p"] == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert found["stderr"] == pytest.approx(np.std(values, ddof=1) / 3**0.5) and found["seeds"] == 3


def test_contrasts_are_corrected_over_all_rows():
    found = contrasts(
        made(seeds=(0, 1, 2), wiggle=0.1), ["known"], [("PPM", "RANDOM"), ("RANDOM", "PPM"), ("PPM", "L2")]
    )
    assert found["difference"].tolist() == pytest.approx([-found["difference"][1], found["difference"][1]])
    assert (found["p_holm"] >= found["p"]).all() and len(found) == 2


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: at_equal_damage(made(), "myths"), "no myths"),
        (lambda: advantage(made(), "known", "PPM", "VOW"), "no VOW"),
        (lambda: over_seeds([1.0]), "at least two seeds"),
        (lambda: over_seeds([1.0, np.nan]), "finite"),
    ],
)
def test_bad_input_is_one_line(ask, says):
    with pytest.raises(WidthPruneError, match=says) as error:
        ask()
    assert "\n" not in str(error.value)


def test_what_models_know_unpruned_is_a_column_a_kind():
    rows = [
        ("known", "gated", 0, "none", 0.5),
        ("known", "gated", 1, "none", 0.7),
        ("known", "plain", 0, "none", 0.25),
        ("held", "plain", 0, "none", 1.0),
        ("known", "gated", 0, "PPM", 0.1),
    ]
    table = pd.DataFrame(rows, columns=["measure", "kind", "seed", "criterion", "value"]).assign(stage="base")
    # One seed has no deviation.
    assert unpruned(table).to_dict() == {
        "gated": {"held": "", "known": "0.600 ± 0.141"},
        "plain": {"held": "1.000", "known": "0.250"},
    }
    with pytest.raises(WidthPruneError, match="stage"):
        unpruned(pd.concat([table, table.assign(stage="tuned")]))


def test_a_measure_tier_by_tier_is_a_mean_over_seeds():
    rows = [
        ("gated", 0, "share", "common", 0, 0.1),
        ("gated", 0, "share", "common", 1, 0.3),  # two draws of one seed count as one
        ("gated", 1, "share", "common", 0, 0.4),
        ("gated", 0, "share", "myth", 0, -0.5),
        ("gated", 0, "rank", "myth", 0, 9.0),
    ]
    table = pd.DataFrame(rows, columns=["kind", "seed", "measure", "set", "draw", "value"])
    found = by_tier(table.assign(criterion="PPM", pruning_pct=10.0), "share")
    assert found.to_dict("list") == {"common": ["+0.300 ± 0.100"], "myth": ["-0.500"]}
    assert list(found.index) == [("gated", "PPM", "10%")]
