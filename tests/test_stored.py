"""What is stored is shown as it was measured; what is missing is named; nothing is measured unless asked for."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import papermill
import pytest
from conftest import tiny_model
from families import byte_tokenizer

from widthprune import WidthPruneError
from widthprune.audit.controls import never_trained, twin_name
from widthprune.audit.diagnostics import described
from widthprune.evaluation.stored import check_measurable, command_line, find_stored, stored_or_measured
from widthprune.report.runs import write_run

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
    # No number loses a digit, and no widths at all are not the default ones.
    asked = dict(pruning_pcts=[], criteria=["PPM", "RANDOM"], limit=2, seed=1234567, results_dir="of mine")
    asked |= dict(neuron_seeds=[0, 7654321], chat_template=True, device="cuda", expansion_ratios=[2.40712, 4])
    words = shlex.split(command_line("m", ["pocket_facts"], **asked))
    from widthprune.__main__ import make_parser

    options = make_parser().parse_args(words[1:])
    assert (options.model, options.tasks) == ("m", ["pocket_facts"])
    for name, value in asked.items():
        found = getattr(options, name)
        assert list(found) == value if isinstance(value, list) else str(found) == str(value), name


def test_what_could_not_be_measured_is_told_before_other_work(tmp_path):
    tiny_model("qwen2", vocab_size=300).save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    asked = GRID | dict(results_dir=str(tmp_path / "results"))
    check_measurable(str(tmp_path / "model"), "pocket_facts", measure=True, **asked)
    asked["criteria"] = ["PPM", "FLAP-BIAS"]
    check_measurable(str(tmp_path / "model"), "pocket_facts", measure=False, **asked)
    with pytest.raises(WidthPruneError, match="FLAP-BIAS puts a bias into .*: use FLAP"):
        check_measurable(str(tmp_path / "model"), "pocket_facts", measure=True, **asked)
    assert not (tmp_path / "results").exists()


def test_an_unknown_task_is_one_line(stored, language_model):
    for tasks in ("nothing", ["pocket_facts", "nothing"]):
        with pytest.raises(WidthPruneError, match="^tasks must be suites .*, got nothing$"):
            stored_or_measured(language_model, tasks, measure=False, **stored)


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
    with pytest.raises(WidthPruneError, match="lacks results of random-") as refused:
        never_trained(language_model, ["pocket_facts"], measure=False, **asked)
    advice = str(refused.value).partition("To measure them: ")[2].partition(" (in the book")[0]
    words = shlex.split(advice)
    said = dict(zip(words[4::3], words[5::3], strict=True))
    assert words[:2] == ["papermill", "notebooks/07_controls.ipynb"] and (ROOT / words[1]).is_file()
    assert said == asked | {"model": language_model, "limit": "2", "seed": "0", "device": "cpu"}
    assert set(said) <= set(papermill.inspect_notebook(str(ROOT / words[1])))
    found = never_trained(language_model, ["pocket_facts"], measure=True, **asked)
    assert (found["model"] == twin_name(language_model)).all() and (found["pruning_pct"] == 0).all()
    monkeypatch.setattr("widthprune.evaluation.evaluate.measure", None)
    for measure in (True, False):
        again = never_trained(language_model, ["pocket_facts"], measure=measure, **asked)
        pd.testing.assert_frame_equal(again[KEYS + ["value"]], found[KEYS + ["value"]])


def test_what_is_stored_is_found_without_a_model_or_what_runs_one():
    code = """
import sys
from widthprune.audit.controls import never_trained
from widthprune.audit.diagnostics import described
from widthprune.evaluation.stored import stored_or_measured
from widthprune.reruns import contributions  # what `check` imports
sys.path.insert(0, "book")
import build, run_book  # what makes books of what is stored
name, asked = "smollm2-135m-instruct", dict(measure=False, results_dir="results")
assert len(stored_or_measured(name, "pocket", **asked))
assert len(described(name, ["pocket_instructions"], pruning_pcts=[10, 60], **asked))
assert len(never_trained(name, ["pocket_facts"], **asked))
print({"torch", "transformers", "lm_eval", "datasets"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def write(root, pcts, task="pocket_facts", d_ff=100, **kind):
    """Runs of one kind: the unpruned model, and PPM at these percentages."""
    for pct in (0, *pcts):
        size = d_ff * (100 - pct) // 100
        of_point = dict(criterion="PPM" if pct else "none", pruning_pct=float(pct), intermediate_size=size)
        settings = dict(model="m", task=task, num_fewshot=0, limit=None, seed=0, dtype="auto")
        metrics = [{"metric": "acc", "value": 0.5, "stderr": 0.1, "n": 20}]
        where = {"device": "cpu: test", "duration_s": 1.0}
        write_run(root, settings | of_point | {"expansion_ratio": size / 50} | kind, metrics, where)


@pytest.mark.parametrize("kind", ["revision", "data"])
@pytest.mark.parametrize(("pcts", "of"), [([50], "small"), ([10, 20], "large"), ([10, 50], "large")])
def test_several_kinds_are_not_mixed(tmp_path, kind, pcts, of):
    write(tmp_path, [10, 20, 30], **{kind: "large"})
    write(tmp_path, [50], d_ff=80 if kind == "revision" else 100, **{kind: "small"})
    found, missing = find_stored("m", ["pocket_facts"], results_dir=tmp_path, pruning_pcts=pcts)
    assert set(found[kind]) == {of} and not found.duplicated(KEYS).any()
    assert missing == (["pocket facts, PPM at 50%"] if pcts == [10, 50] else [])


def test_all_tasks_are_of_one_revision(tmp_path):
    tasks, asked = ["pocket_facts", "pocket_prose"], dict(results_dir=tmp_path, pruning_pcts=[50])
    write(tmp_path, [10, 20, 30, 50], revision="many")
    write(tmp_path, [50], "pocket_prose", revision="whole")
    assert len(find_stored("m", tasks, **asked)[1]) == 2
    write(tmp_path, [50], revision="whole")
    found, missing = find_stored("m", tasks, **asked)
    assert set(found["revision"]) == {"whole"} and not missing


@pytest.mark.parametrize("show", [never_trained, described])
def test_what_is_measured_is_of_the_model_that_is_asked(language_model, tmp_path, show):
    """Another checkpoint under the same name has results of its own."""
    first, second = (shutil.copytree(language_model, tmp_path / one / "tiny") for one in "ab")
    tiny_model(vocab_size=300, max_position_embeddings=2048, intermediate_size=64, seed=1).save_pretrained(
        second
    )
    asked = dict(limit=2, results_dir=str(tmp_path / "results"), measure=True)
    asked |= {"pruning_pcts": [50]} if show is described else {}
    tables = [show(str(model), ["pocket_misconceptions_mc2"], **asked) for model in (first, second)]
    revisions = [set(table["revision"]) for table in tables]
    assert list(map(len, revisions)) == [1, 1] and revisions[0] != revisions[1]
    again = show(str(first), ["pocket_misconceptions_mc2"], **asked)
    pd.testing.assert_frame_equal(in_order(again), in_order(tables[0]))
    if show is described:
        assert all({"acc", "answer_entropy", "kl_to_unpruned"} <= set(table["metric"]) for table in tables)
