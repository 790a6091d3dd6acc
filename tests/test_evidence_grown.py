"""What rules ask of grown models: by hand, over seeds, and made-up models turn every rule to every outcome it can have."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from widthprune.audit.claims import load_claims
from widthprune.audit.effects import NO, UNSURE, YES
from widthprune.audit.evidence import Evidence
from widthprune.audit.floors import load_floors
from widthprune.audit.ledger import INCONCLUSIVE, LIKE_CONTROL, NO_TRANSFER, REPRODUCED, UNTESTABLE, judge
from widthprune.audit.lookup import NoEvidence
from widthprune.report.results import tidy
from widthprune.studies.stored import STUDIES

CLAIMS = {claim.id: claim for claim in load_claims() if claim.grown}
SEEDS, PCTS = (0, 1, 2), (10.0, 20.0, 30.0, 40.0, 50.0, 60.0)
WHOLE = dict(known=0.9, known_common=1.0, known_rare=0.8, odds_myth=1.1, odds_common=-9.0, instructions=0.8)
WAYS = ("PAIRED", "UNPAIRED", "PAIRED-RANDOM", "UNPAIRED-RANDOM")


def swept(
    stage, slopes, kinds=("gated", "plain"), criteria=("PPM", "PPM-REVERSED", "PPM-GATE", "PPM-UP", "RANDOM")
):
    """Models whose prose rises by 0.1 a tenth of the neurons; measures move by ``slopes`` of (criterion, measure, kind)."""
    rng, rows = np.random.default_rng(0), []
    for kind, seed in itertools.product(kinds, SEEDS):
        for criterion, pct in [("none", 0.0), *itertools.product(criteria, PCTS)]:
            for measure, value in {"prose": 2.0, **WHOLE}.items():
                slope = (
                    0.1
                    if measure == "prose"
                    else slopes(criterion, measure, kind) + 1e-3 * rng.standard_normal()
                )
                value = value + slope * pct / 10
                rows.append((kind, seed, stage, criterion, 0, pct, measure, value, 0.01, 200))
    return pd.DataFrame(rows, columns=list(STUDIES["removal"]))


def shares(beyond, kinds=("gated", "plain")):
    rng = np.random.default_rng(1)
    rows = [
        (kind, seed, pct, pct / 100 + beyond + 1e-3 * rng.standard_normal(), pct / 100, 0.01)
        for kind, seed, pct in itertools.product(kinds, SEEDS, PCTS)
    ]
    return pd.DataFrame(rows, columns=list(STUDIES["shares"]))


def put_back(kept, random, kinds=("gated", "plain")):
    rng, rows = np.random.default_rng(2), []
    for kind, seed in itertools.product(kinds, SEEDS):
        rows.append((kind, seed, "everything", "none", 0, 0.0, "instructions", 0.8, 0.01, 200))
        for name, pct in itertools.product(("kept", "not random"), PCTS):
            value = 0.8 - (kept if name == "kept" else random) + 1e-3 * rng.standard_normal()
            rows.append((kind, seed, name, "PPM", 0, pct, "instructions", value, 0.01, 200))
    return pd.DataFrame(rows, columns=list(STUDIES["causal"]))


def attributed(myths, rare, kinds=("gated", "plain")):
    """Shares of the odds of each tier in the lowest neurons, above those of common facts, which have one tenth less than their part."""
    rng, beyond = np.random.default_rng(3), dict(common=0.0, rare=rare, myth=myths)
    rows = [
        (kind, seed, "share", tier, "PPM", 0, pct, more - pct / 1000 + 1e-3 * rng.standard_normal(), 0.01, 24)
        for kind, seed, pct in itertools.product(kinds, SEEDS, (10.0, 20.0, 40.0))
        for tier, more in beyond.items()
    ]
    return pd.DataFrame(rows, columns=list(STUDIES["attributed"]))


def evidence(**grown):
    return Evidence(tidy(pd.DataFrame()), load_floors(), grown=grown)


def by_criterion(**slopes):
    """Slopes of what is known, and of odds of myths; of odds of facts the opposite."""
    slopes = {name.replace("_", "-"): slope for name, slope in slopes.items()}

    def slope(criterion, measure, kind):
        own = slopes.get(criterion, 0.0)
        return (
            -own
            if measure == "odds_common"
            else 0.5 * own
            if measure in ("known_common", "instructions")
            else own
        )

    return slope


def world(slopes, beyond=0.0, kept=0.0, random=0.0, paired=lambda *at: 0.0, myths=0.0, rare=0.0):
    return evidence(
        removal=swept("base", slopes),
        tuned=swept("tuned", slopes),
        halves=swept("base", paired, ("gated",), WAYS),
        shares=shares(beyond),
        causal=put_back(kept, random),
        attributed=attributed(myths, rare),
    )


def gate_alone(criterion, measure, kind):
    return -0.05 if (criterion, measure, kind) == ("PPM", "known", "gated") else 0.0


def gate_and_lots(criterion, measure, kind):
    return -0.05 if criterion in ("PPM", "RANDOM") and (measure, kind) == ("known", "gated") else 0.0


WORLDS = {
    "nothing was grown": evidence(),
    "nothing moves": world(by_criterion()),
    "PPM takes what is known": world(by_criterion(PPM=-0.05), 0.02, 0.1, 0.05, by_criterion(PAIRED=-0.05)),
    "PPM spares it": world(by_criterion(PPM=0.05), -0.02, 0.05, 0.1, by_criterion(PAIRED=0.05)),
    "all take it alike": world(by_criterion(PPM=-0.05, RANDOM=-0.05)),
    "PPM and its reverse take it": world(by_criterion(PPM=-0.05, PPM_REVERSED=-0.05)),
    "with a gate alone": world(gate_alone),
    "with a gate alone, at random too": world(gate_and_lots),
    "myths alone": world(lambda c, m, k: -0.05 if (c, m) == ("PPM", "odds_myth") else 0.0, myths=0.05),
    "low neurons hold rare facts as much": world(by_criterion(), myths=0.05, rare=0.05),
    "low neurons hold less of myths": world(by_criterion(), myths=-0.05),
}


def possible(claim):
    found = {REPRODUCED, NO_TRANSFER, INCONCLUSIVE, UNTESTABLE}
    return found | ({LIKE_CONTROL} if claim.alike else set())


@pytest.fixture(scope="module")
def reached():
    found = {name: {} for name in CLAIMS}
    for world_name, made in WORLDS.items():
        for name, claim in CLAIMS.items():
            # What has reached all is not asked again.
            if possible(claim) - set(found[name]):
                found[name].setdefault(judge(claim, made).outcome, world_name)
    return found


@pytest.mark.parametrize("name", CLAIMS)
def test_a_rule_reaches_every_outcome_it_can_have(name, reached):
    assert possible(CLAIMS[name]) - set(reached[name]) == set(), reached[name]


def test_shares_of_the_odds_by_hand():
    found = evidence(attributed=attributed(0.05, 0.0)).grown_held("plain", 20.0, "myth")
    assert found.change == pytest.approx(0.05, abs=3e-3) and found.before == pytest.approx(0.18, abs=2e-3)
    assert (found.n, found.unit) == (3, "seeds")


def test_a_difference_by_hand():
    made = evidence(removal=swept("base", lambda c, m, k: -0.1 if c == "PPM" else 0.0))
    found = made.grown("gated", "base", "known", "PPM", "RANDOM")
    # Levels of 0.05 to 0.4 are 0.21 on average, that is, 2.1 tenths of the neurons.
    assert found.change == pytest.approx(-0.21, abs=0.01) and (found.n, found.before) == (3, 0.9)


def test_so_few_seeds_are_judged_by_students_distribution():
    made = evidence(shares=shares(0.0))
    table = made.grown_table["shares"]
    for seed, off in zip(SEEDS, (0.01, 0.02, 0.03), strict=True):
        table.loc[table["seed"] == seed, "share"] = 0.1 + off
    found = made.grown_share("gated", 10)
    z = 0.02 / (0.01 / 3**0.5)
    assert found.change == pytest.approx(0.02) and found.p == pytest.approx(2 * student.sf(z, 2))
    # Two standard errors of a normal distribution are as rare as so many of these.
    assert 2 * found.stderr == pytest.approx(student.isf(made.rule.alpha / 2, 2) * 0.01 / 3**0.5)
    assert made.rule.rises(found) == UNSURE


def test_one_seed_decides_nothing():
    table = swept("base", by_criterion(PPM=-0.05))
    made = evidence(removal=table[table["seed"] == 0])
    with pytest.raises(NoEvidence, match="fewer than two seeds"):
        made.grown("gated", "base", "known", "PPM", "RANDOM")


def test_what_no_criterion_did_is_no_evidence():
    table = swept("base", by_criterion())
    with pytest.raises(NoEvidence, match="no PPM-UP"):
        evidence(removal=table[table["criterion"] != "PPM-UP"]).grown(
            "gated", "base", "known", "PPM", "PPM-UP"
        )


@pytest.mark.parametrize(("slope", "answer"), [(-0.05, YES), (0.05, NO)])
def test_the_dichotomy_is_of_shares(slope, answer):
    made = evidence(tuned=swept("tuned", lambda c, m, k: slope * (m == "known") * (c == "PPM")))
    found = made.grown_dichotomy("plain", "PPM")
    assert made.rule.rises(found) == answer
    assert found.change == pytest.approx(-slope * 2.1 / 0.9, rel=0.05)
