"""Headline numbers once more, from the CSV and JSON files alone: scipy and pandas, and none of the package's code.

Only the last part imports the package, to ask it for the same numbers.
"""

import itertools
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "widthprune"
SMALL = "smollm2-135m-instruct"
MODELS = {"1B": "Llama-3.2-1B", "3B": "Llama-3.2-3B", "1B-Instruct": "Llama-3.2-1B-Instruct"}
METRICS = {"mmlu": "acc", "truthfulqa_mc2": "acc", "ifeval": "prompt_level_strict_acc", "wikitext": "word_perplexity"}  # fmt: skip

scores = pd.read_csv(PACKAGE / "published_tables" / "capabilities.csv")
criteria = pd.read_csv(PACKAGE / "published_tables" / "criteria.csv")
runs = pd.read_csv(PACKAGE / "published_tables" / "efficiency_runs.csv")
floors = pd.read_csv(PACKAGE / "audit" / "floors.csv")


def series(model, task):
    """A benchmark's headline scores of one of the paper's models, by pruning percentage."""
    rows = scores.query("model == @MODELS[@model] and task == @task and metric == @METRICS[@task]")
    return rows.set_index("pruning_pct")["value"].sort_index()


def change(model, task, pct):
    return 100 * (series(model, task)[pct] / series(model, task)[0] - 1)


def pair(model):
    both = pd.concat([series(model, "mmlu"), series(model, "truthfulqa_mc2")], axis=1, join="inner")
    return both.to_numpy().T


def permutation_p(model):
    """Of all orders of one series, the share whose r is as far from zero as the one found."""
    x, y = pair(model)
    orders = np.array(list(itertools.permutations(y)))
    r = stats.pearsonr(np.broadcast_to(x, orders.shape), orders, axis=1).statistic
    return np.mean(np.abs(r) >= abs(stats.pearsonr(x, y).statistic) - 1e-12)


def criterion(name, task):
    rows = criteria.query("paper_version == 'v1' and criterion == @name and task == @task")
    return rows["value"].item()


def perplexity_rise(name, task):
    return 100 * (criterion(name, task) / criterion("none", task) - 1)


def efficiency(model, numerator, denominator=None):
    """Change of a mean over seeds from 0 to 60%, in %, on single requests of MMLU."""
    rows = runs.query("model == @MODELS[@model] and workload == 'mmlu_latency_b1'")
    value = rows[numerator] / (rows[denominator] if denominator else 1)
    mean = value.groupby(rows["pruning_pct"]).mean()
    return 100 * (mean[60] / mean[0] - 1)


def in_template(pct, *, diagnostics):
    """Metrics of SmolLM2's IFEval in its chat template: its scores, or what describes its answers."""
    found = []
    for path in (ROOT / "results" / SMALL).glob(f"{'PPM' if pct else 'none'}-{pct}pct-ifeval-*.json"):
        run = json.loads(path.read_text(encoding="utf-8"))
        if run["settings"].get("chat_template") and ("diagnostics" in run["settings"]) == diagnostics:
            found.append({one["metric"]: one for one in run["metrics"]})
    (only,) = found
    return only


def mcnemar(pct):
    """Exact p from the counts of prompts that only one of the two models follows."""
    before, after = (in_template(p, diagnostics=False)["prompt_level_strict_acc"] for p in (0, pct))
    changed = round(in_template(pct, diagnostics=True)["flip_rate"]["value"] * after["n"])
    difference = round((after["value"] - before["value"]) * after["n"])
    return stats.binomtest((changed + difference) // 2, changed, 0.5).pvalue


def pocket(name):
    text = (PACKAGE / "pocket" / "data" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def word_frequencies():
    """Perplexity of the pocket prose under the frequencies of its own words."""
    counts = Counter(word for item in pocket("prose") for word in item["page"].split())
    return math.exp(stats.entropy(list(counts.values())))


RECOMPUTED = {
    "r, 3B": lambda: stats.pearsonr(*pair("3B")).statistic,
    "p, 3B": lambda: stats.pearsonr(*pair("3B")).pvalue,
    "r, 1B": lambda: stats.pearsonr(*pair("1B")).statistic,
    "p, 1B": lambda: stats.pearsonr(*pair("1B")).pvalue,
    "permutation p, 3B": lambda: permutation_p("3B"),
    "permutation p, 1B": lambda: permutation_p("1B"),
    "IFEval, 1B at 40%": lambda: change("1B", "ifeval", 40),
    "IFEval, largest rise": lambda: max(change(m, "ifeval", p) for m in ("1B", "3B") for p in range(10, 70, 10)),
    "MMLU, 3B at 60%": lambda: change("3B", "mmlu", 60),
    "MC2, 3B at 60%": lambda: change("3B", "truthfulqa_mc2", 60),
    "WikiText, 1B at 60%": lambda: change("1B", "wikitext", 60),
    "WikiText, 3B at 60%": lambda: change("3B", "wikitext", 60),
    "WikiText at 10%, VOW": lambda: perplexity_rise("VOW", "wikitext"),
    "LAMBADA at 10%, VOW": lambda: perplexity_rise("VOW", "lambada_openai"),
    "LAMBADA at 10%, PON": lambda: perplexity_rise("PON", "lambada_openai"),
    "instruct IFEval at 40%": lambda: change("1B-Instruct", "ifeval", 40),
    "energy": lambda: efficiency("1B", "tracker_stop_net", "new_tokens"),
    "latency": lambda: efficiency("1B", "ttlt_ms"),
    "McNemar's p at 10%": lambda: mcnemar(10),
    "McNemar's p at 40%": lambda: mcnemar(40),
    "floor of facts": lambda: np.mean([1 / len(item["choices"]) for item in pocket("facts")]),
    "floor of MC2": lambda: np.mean([np.mean(item["labels"]) for item in pocket("misconceptions")]),
    "floor of prose": word_frequencies,
}  # fmt: skip


# What the package says of the same numbers.


@pytest.fixture(scope="module")
def evidence():
    from widthprune import load_results
    from widthprune.audit.evidence import Evidence
    from widthprune.audit.floors import load_floors

    return Evidence(load_results(ROOT / "results"), load_floors())


def rise_by(e, name, task):
    return 100 * (e.criterion("v1", name, task) / e.criterion("v1", "none", task) - 1)


def stored_p(e, pct):
    return e.measured(SMALL, "ifeval", "PPM", pct, "mcnemar_p", chat_template=True)


PCTS = range(10, 70, 10)
STATED = {
    "r, 3B": lambda e: e.pair("3B", "mmlu", "truthfulqa_mc2"),
    "p, 3B": lambda e: e.pair("3B", "mmlu", "truthfulqa_mc2", "p"),
    "r, 1B": lambda e: e.pair("1B", "mmlu", "truthfulqa_mc2"),
    "p, 1B": lambda e: e.pair("1B", "mmlu", "truthfulqa_mc2", "p"),
    "permutation p, 3B": lambda e: e.pair("3B", "mmlu", "truthfulqa_mc2", "p_exact"),
    "permutation p, 1B": lambda e: e.pair("1B", "mmlu", "truthfulqa_mc2", "p_exact"),
    "IFEval, 1B at 40%": lambda e: e.change("1B", "ifeval", 40),
    "IFEval, largest rise": lambda e: max(e.change(m, "ifeval", p) for m in ("1B", "3B") for p in PCTS),
    "MMLU, 3B at 60%": lambda e: e.change("3B", "mmlu", 60),
    "MC2, 3B at 60%": lambda e: e.change("3B", "truthfulqa_mc2", 60),
    "WikiText, 1B at 60%": lambda e: e.change("1B", "wikitext", 60),
    "WikiText, 3B at 60%": lambda e: e.change("3B", "wikitext", 60),
    "WikiText at 10%, VOW": lambda e: rise_by(e, "VOW", "wikitext"),
    "LAMBADA at 10%, VOW": lambda e: rise_by(e, "VOW", "lambada_openai"),
    "LAMBADA at 10%, PON": lambda e: rise_by(e, "PON", "lambada_openai"),
    "instruct IFEval at 40%": lambda e: e.change("1B-Instruct", "ifeval", 40),
    "energy": lambda e: e.energy("1B", "mmlu_latency_b1", 60),
    "latency": lambda e: e.ttlt("1B", "mmlu_latency_b1", 60),
    "McNemar's p at 10%": lambda e: stored_p(e, 10),
    "McNemar's p at 40%": lambda e: stored_p(e, 40),
    "floor of facts": lambda e: e.floor("pocket_facts"),
    "floor of MC2": lambda e: e.floor("pocket_misconceptions_mc2"),
    "floor of prose": lambda e: e.floor("pocket_prose"),
}


@pytest.mark.parametrize("name", RECOMPUTED)
def test_the_package_states_what_the_files_give(name, evidence):
    # Committed floors have six digits.
    assert STATED[name](evidence) == pytest.approx(RECOMPUTED[name](), rel=1e-5)


LEDGER = {
    "r-3b": "r, 3B",
    "p-3b": "p, 3B",
    "r-1b": "r, 1B",
    "p-1b": "p, 1B",
    "ifeval-1b-40": "IFEval, 1B at 40%",
    "ifeval-1b-30": "IFEval, largest rise",
    "mmlu-3b-60": "MMLU, 3B at 60%",
    "mc2-3b-60": "MC2, 3B at 60%",
    "wikitext-1b-60": "WikiText, 1B at 60%",
    "wikitext-3b-60": "WikiText, 3B at 60%",
    "instruct-ifeval": "instruct IFEval at 40%",
    "energy-23": "energy",
    "latency-18": "latency",
}


def test_the_ledger_prints_what_the_files_give(evidence):
    from widthprune.audit.ledger import judge, load_claims

    found = {claim.id: judge(claim, evidence).found for claim in load_claims() if claim.id in LEDGER}
    assert set(found) == set(LEDGER)
    for claim, text in found.items():
        digits = len(text.rstrip("%").partition(".")[2])
        assert float(text.rstrip("%")) == pytest.approx(RECOMPUTED[LEDGER[claim]](), abs=0.51 / 10**digits), (
            claim
        )


@pytest.mark.parametrize(
    ("name", "printed", "digits"),
    [
        ("r, 3B", -0.864, 3),
        ("p, 3B", 0.012, 3),
        ("r, 1B", -0.676, 3),
        ("IFEval, 1B at 40%", 46, 0),
        ("IFEval, largest rise", 75, 0),
        ("WikiText at 10%, VOW", 337, 0),
        ("LAMBADA at 10%, VOW", 9207, 0),
        ("energy", -23, 0),
        ("latency", 18, 0),
    ],
)
def test_the_files_give_what_the_paper_prints(name, printed, digits):
    assert round(RECOMPUTED[name](), digits) == printed


def test_the_paper_counts_orders():
    # 160 and 726 of the 5,040 orders of seven points.
    assert [round(RECOMPUTED[f"permutation p, {m}"]() * math.factorial(7)) for m in ("3B", "1B")] == [
        160,
        726,
    ]
