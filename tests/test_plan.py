"""Plans: the jobs of a request, and what another request shares with it."""

import shutil
from dataclasses import replace
from pathlib import Path

import papermill
import pytest
from conftest import SMALL
from families import byte_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from widthprune import WidthPruneError
from widthprune.evaluation.evaluate import evaluate
from widthprune.report.tasks import SUITES
from widthprune.reruns.experiments import EXPERIMENTS
from widthprune.reruns.plan import Request, make_plan
from widthprune.reruns.records import read_here, read_plan, write_plan

ROOT = Path(__file__).parent.parent
TASKS = len(SUITES["pocket"])


@pytest.fixture
def request_of(language_model):
    return Request(language_model, ratios=(2.2, 1.8), limit=3)


def results(request, tmp_path):
    """Every result that a request would measure, as the store would file it."""
    plan = make_plan(request, ROOT, tmp_path)
    return {(job["code"], file) for job in plan["jobs"].values() for file in job["files"].values()}


def test_a_job_is_one_model_with_all_its_tasks(request_of, tmp_path):
    plan = make_plan(request_of, ROOT, tmp_path)
    assert list(plan["jobs"]) == ["none-88-seed0", "PPM-71-seed0", "PPM-58-seed0"]
    assert {len(job["files"]) for job in plan["jobs"].values()} == {TASKS}
    assert plan["notebooks"]["03_capabilities"]["ratios"] == (2.2, 1.8)


def test_another_ratio_shares_the_rest(request_of, tmp_path):
    one, other = results(request_of, tmp_path), results(replace(request_of, ratios=(2.2, 1.5)), tmp_path)
    assert len(one) == len(other) == 3 * TASKS and len(one & other) == 2 * TASKS


@pytest.mark.parametrize("change", [{"limit": 4}, {"seed": 1}])
def test_another_limit_or_seed_shares_nothing(change, request_of, tmp_path):
    assert not results(request_of, tmp_path) & results(replace(request_of, **change), tmp_path)


def test_another_model_shares_nothing_even_under_the_same_name(request_of, tmp_path):
    """One weight changed in place: the same name, config, file names and sizes."""
    copy = shutil.copytree(request_of.model, tmp_path / "model")
    request = replace(request_of, model=str(copy))
    before = results(request, tmp_path)
    assert before == results(request, tmp_path) and not before & results(request_of, tmp_path)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert not before & results(request, tmp_path)


def test_another_device_or_criterion_beside_it(request_of, tmp_path):
    one = results(request_of, tmp_path)
    assert results(replace(request_of, batch_size=2), tmp_path) == one
    more = results(replace(request_of, criteria=("PPM", "L2")), tmp_path)
    assert one < more and len(more) == 5 * TASKS


def test_the_comparison_of_criteria_keeps_its_own_grid(request_of, tmp_path):
    plan = make_plan(replace(request_of, experiments=("criteria",)), ROOT, tmp_path)
    own = plan["notebooks"]["02_criteria"]
    assert own["pruning_pcts"] == [10] and len(own["criteria"]) > 3
    draws = {name for name in plan["jobs"] if "-draw" in name}
    assert len(draws) == len(own["random_seeds"])
    assert {tuple(plan["jobs"][name]["files"]) for name in draws} == {("pocket_prose",)}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiments_notebook_has_the_parameters_of_a_rerun(name):
    path = ROOT / "notebooks" / f"{EXPERIMENTS[name].notebook}.ipynb"
    needed = {"model", "pruning_pcts", "ratios", "criteria", "limit", "seed", "results_dir", "device"}
    assert set(papermill.inspect_notebook(str(path))) >= needed
    text = path.read_text(encoding="utf-8")
    assert '\\"pocket\\"' in text or all(f'\\"{task}\\"' in text for task in EXPERIMENTS[name].tasks)


def test_a_plan_is_read_back(request_of, tmp_path):
    plan = make_plan(request_of, ROOT, tmp_path)
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path)["jobs"] == plan["jobs"]
    # The folder may be published, all but its hidden files, or moved.
    model, text = request_of.model, (tmp_path / "plan.json").read_text()
    assert str(tmp_path) not in text and model not in text and str(ROOT) not in text
    assert read_here(tmp_path) == {"model": model, "project": str(ROOT), "store": str(tmp_path)}
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(WidthPruneError, match="holds no whole plan.json"):
        read_plan(tmp_path)


@pytest.mark.parametrize(
    ("family", "more", "criterion"),
    [
        ("qwen2", {}, "FLAP-BIAS"),  # no place for a bias
        ("mixtral", dict(num_local_experts=4), "PPM-ACT"),  # experts have no activations of their own
        ("llama", {}, "PPM-ACT"),  # 64 positions, and the text that it looks at is longer
    ],
)
def test_a_plan_and_a_sweep_refuse_the_same_criteria(family, more, criterion, tmp_path):
    model = tmp_path / "model"
    byte_tokenizer().save_pretrained(model)
    config = AutoConfig.for_model(family, **SMALL | more | dict(vocab_size=300))
    AutoModelForCausalLM.from_config(config).save_pretrained(model)
    asked = dict(pruning_pcts=(50.0,), criteria=("PPM", criterion))
    with pytest.raises(WidthPruneError) as sweep:
        evaluate(str(model), results_dir=tmp_path / "results", dry_run=True, **asked)
    with pytest.raises(WidthPruneError) as plan:
        make_plan(Request(str(model), experiments=("capabilities",), **asked), ROOT, tmp_path)
    assert str(plan.value) == f"criteria: {sweep.value}"
