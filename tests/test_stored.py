"""What is stored is shown as it was measured; what is missing is named; nothing is measured unless asked for."""

import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from widthprune import WidthPruneError
from widthprune.audit.controls import never_trained
from widthprune.audit.diagnostics import described
from widthprune.evaluation.stored import command_line, find_stored, stored_or_measured

ROOT = Path(__file__).parent.parent
GRID = dict(pruning_pcts=[50], criteria=["PPM", "RANDOM"], limit=2, seed=0)
KEYS = ["criterion", "neuron_seed", "pruning_pct", "task", "metric"]


def in_order(table):
    return table.sort_values(KEYS, ignore_index=True)


def test_stored_results_are_what_was_measured(language_model, tmp_path):
    asked = GRID | dict(results_dir=str(tmp_path / "results"), neuron_seeds=[0, 3])
    measured = stored_or_measured(language_model, "pocket_facts", measure=True, **asked)
    stored = stored_or_measured(language_model, "pocket_facts", measure=False, **asked)
    pd.testing.assert_frame_equal(in_order(stored), in_order(measured))
    # A part of it, and not what lies beside it.
    part = asked | dict(criteria=["RANDOM"], neuron_seeds=[3])
    stored = stored_or_measured(language_model, "pocket_facts", measure=False, **part)
    assert set(zip(stored["criterion"], stored["neuron_seed"].fillna(-1), strict=True)) == {
        ("none", -1),
        ("RANDOM", 3),
    }
    # By its ratio, too, which half of the neurons makes.
    ratio = measured.loc[measured["pruning_pct"] == 50, "expansion_ratio"].iloc[0]
    by_ratio = asked | dict(pruning_pcts=[], expansion_ratios=[ratio])
    stored = stored_or_measured(language_model, "pocket_facts", measure=False, **by_ratio)
    assert len(stored) == len(measured)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"pruning_pcts": [20, 50]}, "pocket facts, PPM at 20%; pocket facts, RANDOM (draw 0) at 20%"),
        ({"criteria": ["MAW"]}, "pocket facts, MAW at 50%"),
        ({"neuron_seeds": [0, 9]}, "pocket facts, RANDOM (draw 9) at 50%"),
        ({"limit": None}, "pocket_facts of the unpruned model"),
        ({"seed": 1}, "pocket_facts of the unpruned model"),
        ({"chat_template": True}, "pocket_facts of the unpruned model"),
        ({"results_dir": "nowhere"}, "pocket_facts of the unpruned model"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_missing_is_named(language_model, stored, change, missing):
    with pytest.raises(WidthPruneError) as refused:
        stored_or_measured(language_model, "pocket_facts", measure=False, **(stored | change))
    assert f": {missing}. To measure them: widthprune evaluate " in str(refused.value)
    assert "make book MEASURE=1" in str(refused.value) and "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def stored(language_model, tmp_path_factory):
    asked = GRID | dict(results_dir=str(tmp_path_factory.mktemp("stored") / "results"))
    stored_or_measured(language_model, "pocket_facts", measure=True, **asked)
    return asked


def test_the_command_measures_the_same(tmp_path):
    asked = GRID | dict(neuron_seeds=[0, 3], chat_template=True, device="cuda", expansion_ratios=[2.4])
    words = shlex.split(command_line("m", ["pocket_facts"], **asked))
    from widthprune.__main__ import make_parser

    options = make_parser().parse_args(words[1:])
    assert (options.model, options.tasks) == ("m", ["pocket_facts"])
    for name, value in asked.items():
        found = getattr(options, name)
        assert list(found) == value if isinstance(value, list) else found == value


def test_answers_are_described_once(language_model, tmp_path):
    asked = dict(pruning_pcts=[50], limit=2, results_dir=str(tmp_path / "results"))
    tasks = ["pocket_misconceptions_mc2"]
    stored_or_measured(language_model, tasks, measure=True, **asked)
    with pytest.raises(WidthPruneError, match="answers of .* --save-samples, then widthprune diagnose"):
        described(language_model, tasks, measure=False, **asked)
    found = described(language_model, tasks, measure=True, **asked)
    assert {"acc", "answer_entropy", "kl_to_unpruned"} <= set(found["metric"])
    pd.testing.assert_frame_equal(
        in_order(described(language_model, tasks, measure=False, **asked)), in_order(found)
    )


def test_a_twin_is_made_once(language_model, tmp_path, monkeypatch):
    asked = dict(limit=2, results_dir=str(tmp_path / "results"))
    with pytest.raises(
        WidthPruneError, match="lacks results of random-.*papermill notebooks/07_controls.ipynb"
    ):
        never_trained(language_model, ["pocket_facts"], measure=False, **asked)
    found = never_trained(language_model, ["pocket_facts"], measure=True, **asked)
    assert found["model"].str.startswith("random-").all() and (found["pruning_pct"] == 0).all()
    monkeypatch.setattr("widthprune.audit.controls.random_initialised", None)
    for measure in (True, False):
        again = never_trained(language_model, ["pocket_facts"], measure=measure, **asked)
        pd.testing.assert_frame_equal(again[KEYS + ["value"]], found[KEYS + ["value"]])


def test_what_is_stored_is_found_without_a_model_or_what_runs_one():
    code = """
import sys
from widthprune.audit.controls import never_trained
from widthprune.audit.diagnostics import described
from widthprune.evaluation.stored import stored_or_measured
name, asked = "smollm2-135m-instruct", dict(measure=False, results_dir="results")
assert len(stored_or_measured(name, "pocket", **asked))
assert len(described(name, ["pocket_instructions"], pruning_pcts=[10, 60], **asked))
assert len(never_trained(name, ["pocket_facts"], **asked))
print({"torch", "transformers", "lm_eval", "datasets"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_several_kinds_are_not_mixed(language_model, stored):
    found, missing = find_stored(language_model, ["pocket_facts"], **stored)
    assert not missing and found["revision"].nunique() == 1 and not found.duplicated(KEYS).any()
