"""Made-up evidence turns every rule of the ledger to every outcome that it can have: a rule that cannot is a defect."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from widthprune import load_results, published
from widthprune.audit.claims import load_claims
from widthprune.audit.evidence import Evidence
from widthprune.audit.floors import load_floors
from widthprune.audit.ledger import (
    INCONCLUSIVE,
    LIKE_CONTROL,
    NO_TRANSFER,
    NOT,
    REPRODUCED,
    UNTESTABLE,
    judge,
)
from widthprune.report.results import tidy
from widthprune.report.tasks import TASKS

ROOT = Path(__file__).parent.parent
CLAIMS = load_claims()
# Rules of chapters 12 and 13 have made-up studies and measurements in test_packaged_studies.py.
STUDIES = ("myths_", "sliced", "criteria_apart(")
STUDIED = [claim for claim in CLAIMS if any(name in (claim.measured or "") for name in STUDIES)]
RULES = [claim for claim in CLAIMS if (claim.recompute or claim.measured) and claim not in STUDIED]
VERBS = ("rises(", "falls(", "keeps(", "some_rise(")
KNOWLEDGE = ("mmlu", "pocket_facts")
BEHAVIOUR = ("ifeval", "pocket_instructions", "truthfulqa_mc2", "leaderboard_musr", "piqa")
PERPLEXITIES = ("wikitext", "lambada_openai", "pocket_prose")
CACHES = {
    "capabilities": ("_pairs", "_still", "_tested", "_values"),
    "floor_table": ("_floors",),
    "measured_table": ("_runs",),
    "runs": ("_summary", "_workloads", "_seeds"),
    "criteria_table": ("_criteria",),
    "shapes": (),
}


def possible(claim):
    """The outcomes that a claim can have, from the rules that it states."""
    if claim.recompute:
        undecided = any(verb in f"{claim.recompute} {claim.holds}" for verb in VERBS)
        found = {REPRODUCED, NOT} | ({INCONCLUSIVE} if undecided else set())
        found |= {NO_TRANSFER} if claim.measured else set()
    else:
        found = {REPRODUCED, NO_TRANSFER, INCONCLUSIVE, UNTESTABLE}
    return found | ({LIKE_CONTROL} if claim.alike else set())


# Made-up measurements of two instruct models, which work: scores move by so much a tenth of the neurons.

FLAT = dict.fromkeys(("PPM", "VOW", "PON", "L2", "RANDOM", "PPM-REVERSED"), 0.0)


def measured(knowledge, behaviour, perplexity, entropy=0.0):
    rows = []
    for model, template in itertools.product(("some-instruct", "other-instruct"), (False, True)):
        common = dict(model=model, chat_template=template, n=4000, seed=0, num_fewshot=0, dtype="auto")
        for task in (*KNOWLEDGE, *BEHAVIOUR, *PERPLEXITIES):
            slopes = knowledge if task in KNOWLEDGE else behaviour if task in BEHAVIOUR else perplexity
            for criterion, pct in [("none", 0), *itertools.product(FLAT, (10, 20, 30, 40))]:
                # The wobble keeps a straight line from being one, and two that do not move from going together.
                step = slopes.get(criterion, 0.0) * pct / 10 + 1e-4 * (
                    pct % (20 if task in KNOWLEDGE else 30)
                )
                log = task in PERPLEXITIES
                value = 20 * np.exp(step) if log else 0.55 + step
                at = common | dict(task=task, criterion=criterion, pruning_pct=pct)
                rows.append(
                    at | dict(metric=TASKS[task].metric, value=value, stderr=0.01 * (value if log else 1))
                )
                if task == "truthfulqa_mc2":
                    rows.append(
                        at | dict(metric="answer_entropy", value=0.5 + entropy * pct / 10, stderr=None)
                    )
    return tidy(pd.DataFrame(rows))


def slopes(ppm, random, reversed_, others=0.0):
    return dict(PPM=ppm, RANDOM=random, VOW=others, PON=2 * others, L2=others, **{"PPM-REVERSED": reversed_})


# Perplexities are better the lower they are: under PPM 10% a step, under others more.
BORNE_OUT = measured(slopes(-0.07, -0.1, -0.1), slopes(0.08, -0.08, 0.0), slopes(0.1, 0.5, 0.5, 0.5), 0.1)
LIKE_RANDOM = measured(slopes(-0.07, -0.07, -0.12), slopes(0.08, 0.08, 0.0), slopes(0.1, 0.1, 0.5, 0.5), 0.1)
CONTRADICTED = measured(slopes(0.07, 0.0, 0.1), slopes(-0.08, 0.0, 0.0), slopes(-0.3, -0.1, 0.0, -0.5), -0.1)
ALL_FALL = measured(slopes(-0.07, 0.0, 0.0), slopes(-0.08, 0.0, 0.0), slopes(0.1, 0.3, 0.3, 0.3))
ALL_FALL_ALIKE = measured(slopes(-0.07, -0.07, 0.0), slopes(-0.08, -0.08, 0.0), slopes(0.1, 0.1, 0.3, 0.3))
NOTHING_MOVES = measured(FLAT, FLAT, FLAT)
NOT_MEASURED = BORNE_OUT.iloc[:0]


# Made-up publications.


def paper(change):
    """The published scores, each of a pruned model by a function of task, model, unpruned value, and percentage."""
    table = published("capabilities")
    whole = table[table["pruning_pct"] == 0].set_index(["model", "task", "metric"])["value"]
    known = table["task"].isin(TASKS) & (table["pruning_pct"] > 0)
    before = whole.reindex(pd.MultiIndex.from_frame(table[["model", "task", "metric"]])).to_numpy()
    changed = [
        change(row.task, row.model, v0, row.pruning_pct)
        for row, v0 in zip(table.itertuples(), before, strict=True)
    ]
    return table.assign(value=np.where(known, changed, table["value"]))


def better_by(task, v0, share):
    """A score moved by a share of itself towards better."""
    return v0 * np.exp(-3 * share) if not TASKS[task].higher_is_better else np.clip(v0 * (1 + share), 0, 0.99)


def peak(task, model, v0, pct):
    at = 10 if "3B" in model else 40
    return min(0.9, v0 * (3 if pct == at else 1.1))


def turned_round():
    """The same points at other widths, so that the correlations stay and no longer follow the ratio."""
    order = {0: 30, 10: 0, 20: 50, 30: 10, 40: 60, 50: 20, 60: 40}
    table = published("capabilities")
    whole = table["model"].isin(["Llama-3.2-1B", "Llama-3.2-3B"])
    return table.assign(pruning_pct=table["pruning_pct"].map(order).where(whole, table["pruning_pct"]))


def released(**factors):
    """The released runs, with columns of the pruned models' multiplied."""
    table, pruned = published("efficiency_runs"), published("efficiency_runs")["pruning_pct"] > 0
    columns = {name: table[name].where(~pruned, table[name] * factor) for name, factor in factors.items()}
    return table.assign(**columns)


def follows_ratio(widths=200):
    """The two correlations as printed, over many widths, of which nothing is left given the ratio."""
    rows, dose = [], np.linspace(0, 60, widths)
    draws = np.column_stack([np.ones(widths), dose, np.random.default_rng(0).normal(size=(widths, 2))])
    _, ratio, one, other = np.linalg.qr(draws)[0].T * widths**0.5  # of no correlation with each other
    for model, r in (("Llama-3.2-1B", 0.676), ("Llama-3.2-3B", 0.864)):
        for task, sign, own in (("mmlu", -1, one), ("truthfulqa_mc2", 1, other)):
            score = 0.4 + 0.02 * (sign * r**0.5 * ratio + (1 - r) ** 0.5 * own)
            rows.append(
                pd.DataFrame(dict(model=model, task=task, metric="acc", pruning_pct=dose, value=score))
            )
    return tidy(pd.concat(rows).assign(criterion="PPM", source="published"))


def seeds_apart(size):
    """The released runs with the same means, and seeds that differ by so much of the mean."""
    table = published("efficiency_runs")
    table["joules"] = table["tracker_stop_net"] / table["new_tokens"]
    runs = table.groupby(["model", "workload", "pruning_pct"])
    apart = size * (runs["seed"].rank() - 2).where(table["pruning_pct"] > 0, 0.0)
    joules, ttlt = (table[name] + apart * runs[name].transform("mean") for name in ("joules", "ttlt_ms"))
    return table.assign(ttlt_ms=ttlt, tracker_stop_net=joules * table["new_tokens"])


def seeds_alike(share):
    """Every pruned run generates this share of the tokens of its unpruned one, as fast by this share."""
    table = published("efficiency_runs")
    keys = ["model", "workload", "seed"]
    whole = table[table["pruning_pct"] == 0].set_index(keys)[["new_tokens", "throughput_tok_s"]]
    rank = table.groupby(["model", "workload", "pruning_pct"])["seed"].rank()
    factor = (share + 0.001 * rank).where(table["pruning_pct"] > 0, 1.0)
    unpruned = whole.reindex(pd.MultiIndex.from_frame(table[keys])).mul(factor.to_numpy(), axis=0)
    return table.assign(**{name: unpruned[name].to_numpy() for name in whole})


def saving_in_one_workload():
    """Only the 1B model's MMLU saves energy."""
    table = published("efficiency_runs")
    keys = ["model", "workload", "seed"]
    table["joules"] = table["tracker_stop_net"] / table["new_tokens"]
    whole = table[table["pruning_pct"] == 0].set_index(keys)["joules"]
    other = (table["model"] != "Llama-3.2-1B") | (table["workload"] != "mmlu_latency_b1")
    unpruned = whole.reindex(pd.MultiIndex.from_frame(table[keys])).to_numpy()
    joules = table["joules"].where(~other, unpruned)
    return table.assign(tracker_stop_net=joules * table["new_tokens"])


def criteria(factor, **renamed):
    table = published("criteria")
    ours = table["criterion"].isin(["MAW", "PPM"])
    value = table["value"].where(~ours, np.where(table["task"] == "piqa", 0.1, table["value"] * factor))
    name = table["criterion"].replace(renamed)
    return table.assign(value=value, criterion=name)


def floors(value):
    table = load_floors()
    low = [not TASKS[task].higher_is_better for task in table["task"]]
    return table.assign(value=np.where(low, table["value"], value))


WORLDS = {
    "as it is": {},
    # Correlations take their time, so what asks for them comes early and is done.
    "two benchmarks alone": {"capabilities": published("capabilities").query("task in ['mmlu', 'truthfulqa_mc2']")},
    "many widths, and the ratio is all": {"capabilities": follows_ratio()},
    "the points turned round": {"capabilities": turned_round()},
    "all falls": {"capabilities": paper(lambda t, m, v0, pct: better_by(t, v0, -pct / 70)), "criteria_table": criteria(40)},
    "as it is, not measured": {"measured_table": NOT_MEASURED},
    "no floors": {"floor_table": floors(0.0), "measured_table": NOT_MEASURED},
    "floors above all": {"floor_table": floors(0.99), "measured_table": NOT_MEASURED},
    "borne out elsewhere": {"measured_table": BORNE_OUT},
    "borne out elsewhere, above any floor": {"measured_table": BORNE_OUT, "floor_table": floors(0.0)},
    "random neurons do the same": {"measured_table": LIKE_RANDOM, "floor_table": floors(0.0)},
    "contradicted elsewhere": {"measured_table": CONTRADICTED},
    "all falls elsewhere": {"measured_table": ALL_FALL, "floor_table": floors(0.0)},
    "all falls elsewhere, at random too": {"measured_table": ALL_FALL_ALIKE, "floor_table": floors(0.0)},
    "nothing moves elsewhere": {"measured_table": NOTHING_MOVES},
    "borne out elsewhere, below the floors": {"measured_table": BORNE_OUT, "floor_table": floors(0.99)},
    "few items": {"capabilities": published("capabilities").assign(n=8), "measured_table": NOT_MEASURED},
    "many items": {"capabilities": published("capabilities").assign(n=10**7)},
    "many items, contradicted elsewhere": {"capabilities": published("capabilities").assign(n=10**7), "measured_table": CONTRADICTED},
    "many items, the shortest answer is seldom right": {
        "capabilities": published("capabilities").assign(n=10**7), "measured_table": NOT_MEASURED,
        "floor_table": load_floors().assign(value=lambda t: t["value"].where(t["responder"] != "shortest", 0.05))},
    "many items, no floors": {"capabilities": published("capabilities").assign(n=10**7), "floor_table": floors(0.0)},
    "many items, a floor between": {"capabilities": published("capabilities").assign(n=10**7), "floor_table": floors(0.15)},
    "all rises": {"capabilities": paper(lambda t, m, v0, pct: better_by(t, v0, pct / 60)), "floor_table": floors(0.0)},
    "nothing moves": {"capabilities": paper(lambda t, m, v0, pct: v0), "runs": released(ttlt_ms=2.0)},
    "a peak at 2.4x": {"capabilities": paper(lambda t, m, v0, pct: peak(t, m, v0, pct)), "floor_table": floors(0.0)},
    "more of what is saved": {"runs": released(tracker_stop_net=0.1, throughput_tok_s=3.0, new_tokens=0.3)},
    "one workload saves": {"runs": saving_in_one_workload()},
    "seeds that differ": {"runs": seeds_apart(0.5)},
    "seeds that agree on half": {"runs": seeds_alike(0.5)},
    "energy in other units": {"runs": published("efficiency_runs").assign(
        energy_kwh_cpu_gpu_ram=lambda t: t["energy_kwh_cpu_gpu_ram"] * 0.35)},
    "as many tokens": {"runs": released(new_tokens=0.8)},
    "VOW and PON changed places": {"criteria_table": criteria(1, VOW="PON", PON="VOW")},
    "the criterion named": {"criteria_table": criteria(1, PPM="MAW")},
    "another size": {"shapes": published("architectures").assign(
        intermediate_size_after=lambda t: t["intermediate_size_after"] + 400,
        total_parameters_after=lambda t: t["total_parameters_after"] + 1)},
}  # fmt: skip


@pytest.fixture(scope="module")
def worlds():
    base, made = Evidence(load_results(ROOT / "results"), load_floors()), {}
    for name, changes in WORLDS.items():
        made[name] = world = base.vary()  # the same rules: it is the evidence that has to turn them
        for table in changes:
            setattr(world, table, changes[table])
            for cache in CACHES[table]:
                vars(world).pop(cache, None)
            world._found, world._kinds, world._working = {}, {}, {}
    return made


@pytest.mark.parametrize("claim", RULES, ids=lambda claim: claim.id)
def test_a_rule_reaches_every_outcome_it_can_have(claim, worlds):
    reached = {}
    for name, world in worlds.items():
        # What has reached all is not asked again.
        if possible(claim) - set(reached):
            reached.setdefault(judge(claim, world).outcome, name)
    assert len(possible(claim)) > 1
    assert possible(claim) - set(reached) == set(), reached


def test_what_has_no_rule_says_what_it_takes():
    assert all(claim.needs for claim in CLAIMS if claim not in RULES)
