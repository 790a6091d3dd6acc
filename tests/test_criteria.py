"""The table of criteria: every record leads to a function, and a new one reaches all that names criteria."""

import inspect
import operator
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from widthprune import (
    CALIBRATED,
    CRITERIA,
    WidthPruneError,
    activation_criteria,
    prune_model,
    score_neurons,
    weight_criteria,
)
from widthprune.__main__ import main
from widthprune.activation_criteria import score_activations
from widthprune.calibration import Activations
from widthprune.criteria import (
    GLOBAL,
    REGISTRY,
    Criterion,
    check_across_layers,
    criterion_of,
    find_criterion,
)
from widthprune.evaluation.grid import grid
from widthprune.report.figures import plot_criteria
from widthprune.report.runs import run_rows
from widthprune.reruns.experiments import needed_runs, notebook_parameters

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "02_criteria.ipynb"


@pytest.fixture
def spread(monkeypatch):
    """What adding a criterion takes: a function, and a record."""

    def function(*inputs, seed=0):
        return sum(weight.float().std(dim=1) for weight in inputs)

    monkeypatch.setattr(weight_criteria, "spread", function, raising=False)
    monkeypatch.setitem(REGISTRY, "SPREAD", Criterion("SPREAD", "standard deviations", "spread", seeded=True))


def test_names_are_keys_and_functions_are_there():
    assert all(name == record.name == name.upper() for name, record in REGISTRY.items())
    assert all(callable(record.function) and record.label for record in REGISTRY.values())
    assert set(CRITERIA) | set(CALIBRATED) == set(REGISTRY) and not set(CRITERIA) & set(CALIBRATED)


@pytest.mark.parametrize("record", REGISTRY.values(), ids=REGISTRY)
def test_a_record_s_marks_are_what_its_scores_do(record):
    rows = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))

    def scores(seed=0, gradient=1.0):
        if not record.needs_text:
            return score_neurons(*rows, record.name, seed=seed)
        seen = Activations.zeros(16, gradients=True)
        seen.add(rows[:1].mT)
        seen.add_gradient(rows[:1].mT, gradient * rows[1:].mT)
        return score_activations(seen, list(rows), rows[0].T, record.name)

    own = scores()
    assert record.seeded == bool((own != scores(seed=1)).any())
    assert record.needs_gradients == bool((own != scores(gradient=2.0)).any())
    assert record.across_layers == bool((own >= 0).all())
    assert record.adds_bias == record.label.endswith("and a bias")


def test_scores_below_zero_are_not_compared_across_layers():
    check_across_layers(REGISTRY["PPM"])
    with pytest.raises(WidthPruneError, match="those of PPM-REVERSED are below zero: choose another"):
        check_across_layers(REGISTRY["PPM-REVERSED"])


def test_names_need_no_torch():
    code = (
        "import sys, widthprune.evaluation.grid; print(widthprune.CRITERIA); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_the_book_has_every_criterion():
    book = NOTEBOOK.parent.parent / "book"
    assert set(REGISTRY) <= set(re.findall(r"^\| (\S+) \|", (book / "method.md").read_text(), re.MULTILINE))
    assert set(REGISTRY) <= set(re.findall(r"[A-Z0-9-]+", (book / "glossary.md").read_text()))


def test_a_new_one_scores_and_prunes(spread, llama):
    rows = torch.tensor([[1.0, 3.0], [2.0, 2.0]])
    assert score_neurons(rows, rows, "spread").tolist() == pytest.approx([2 * 2**0.5, 0])
    same = prune_model(llama, "VOW", pruning_pct=40).state_dict()
    assert prune_model(llama, "SPREAD", pruning_pct=40).state_dict().keys() == same.keys()


@pytest.mark.parametrize(
    ("function", "inputs", "said"),
    [
        (lambda gate, up: gate.sum(dim=1), 1, "OWN cannot score an MLP of 1 input matrices"),
        (lambda gate, up, down: gate.sum(dim=1), 2, "OWN cannot score an MLP of 2 input matrices"),
        (lambda *inputs: inputs[0].sum(), 2, r"OWN must give a score for each of 3 neurons, got shape \(\)"),
        (lambda *inputs: inputs[0].sum(dim=0), 2, r"each of 3 neurons, got shape \(4,\)"),
        (lambda *inputs: 0 * inputs[0].sum(dim=1) / 0, 2, "OWN gives NaN or infinity for these weights"),
        (
            lambda *inputs: inputs[0].nothing,
            2,
            "OWN fails on these weights .AttributeError: .* function, own",
        ),
        (lambda *inputs: float(inputs[0].sum()), 2, "each of 3 neurons, got a float"),
        # Formulas of others: written in C, without a signature, or with one that means something else.
        (torch.mul, 2, r"each of 3 neurons, got shape \(3, 4\)"),
        (torch.mul, 1, "OWN fails on these weights .TypeError: mul"),
        (torch.norm, 2, "OWN fails on these weights"),
        (operator.mul, 2, r"each of 3 neurons, got shape \(3, 4\)"),
        (sum, 2, r"each of 3 neurons, got shape \(3, 4\)"),
        (max, 2, "OWN fails on these weights .RuntimeError"),
        (print, 2, "each of 3 neurons, got a NoneType"),
        (torch.finfo, 2, "OWN fails on these weights .TypeError"),
        (torch, 2, "OWN must name a function of weight_criteria, got 'own'"),
    ],
)
def test_a_new_one_that_is_wrong(function, inputs, said, monkeypatch):
    monkeypatch.setattr(weight_criteria, "own", function, raising=False)
    monkeypatch.setitem(REGISTRY, "OWN", Criterion("OWN", "a mistake", "own"))
    with pytest.raises(WidthPruneError, match=said):
        score_neurons(torch.ones(3, 4), torch.ones(3, 4) if inputs == 2 else None, "OWN")


def test_a_function_without_a_signature_scores(monkeypatch):
    function = torch.cosine_similarity
    with pytest.raises(ValueError, match="signature"):
        inspect.signature(function)
    monkeypatch.setattr(weight_criteria, "own", function, raising=False)
    monkeypatch.setitem(REGISTRY, "OWN", Criterion("OWN", "a function written in C", "own"))
    assert score_neurons(torch.eye(3), torch.ones(3, 3), "OWN").tolist() == pytest.approx([3**-0.5] * 3)


@pytest.mark.parametrize(
    "function", [torch.mul, lambda x, inputs, down: x.squares.sum(), max, lambda: 0, None]
)
def test_a_wrong_one_that_looks_at_text(function, monkeypatch):
    monkeypatch.setattr(activation_criteria, "own", function, raising=False)
    monkeypatch.setitem(REGISTRY, "OWN", Criterion("OWN", "a mistake", "own", needs_text=True))
    said = "^OWN (fails|cannot score an MLP by its activations|must)[^\n]*$"
    with pytest.raises(WidthPruneError, match=said):
        score_activations(Activations.zeros(3), [torch.ones(3, 4)] * 2, torch.ones(4, 3), "OWN")


def test_a_new_one_reaches_the_command_line(spread, language_model, tmp_path, capsys):
    assert main(["prune", language_model, "--out", str(tmp_path / "out"), "--criterion", "spread"]
                + ["--pruning-pct", "40", "--seed", "3"]) == 0  # fmt: skip
    assert "SPREAD" in (tmp_path / "out" / "README.md").read_text()
    assert "--seed 3" in (tmp_path / "out" / "README.md").read_text()
    for command in ("prune", "evaluate", "rerun"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "SPREAD" in capsys.readouterr().out


def test_a_new_one_reaches_figures(spread):
    names = ["none", "PPM", "SPREAD", "SPREAD" + GLOBAL, "SOMEONE'S"]
    rows = dict(
        task="wikitext", metric="word_perplexity", value=[10.0, 20, 30, 40, 50], stderr=1.0, label="m"
    )
    ax = plot_criteria(pd.DataFrame({"criterion": names[::-1]} | rows), task="wikitext")
    shown = [text.get_text() for text in ax.get_yticklabels()]
    assert shown[:3] == ["unpruned", "PPM", "SPREAD"] and set(shown[3:]) == set(names[3:])


def test_a_new_one_reaches_the_notebooks_parameter_and_rerun(spread):
    asked = {"ratios": (2.4,), "pruning_pcts": (), "criteria": ("SPREAD",)}
    parameters = notebook_parameters(NOTEBOOK, asked)
    own = notebook_parameters(NOTEBOOK, asked | {"criteria": ()})
    assert parameters["criteria"] == [*own["criteria"], "SPREAD"]
    runs = needed_runs(("pocket_prose",), (), parameters, (8192, 2048))
    assert {"SPREAD", "PPM"} <= {run.point.criterion for run in runs}


@pytest.mark.parametrize("label", ["RANDOM", "RANDOM" + GLOBAL, "SPREAD" + GLOBAL])
def test_what_is_drawn_has_a_draw(spread, label):
    name = label.removesuffix(GLOBAL)
    points = grid(88, 32, pruning_pcts=[40], criteria=[name, "PPM"], neuron_seeds=[1, 2])
    assert [(p.criterion, p.neuron_seed) for p in points[1:]] == [(name, 1), (name, 2), ("PPM", None)]
    run = {"provenance": {}, "metrics": [{}], "settings": {"criterion": label, "seed": 5}}
    assert run_rows(run)[0]["neuron_seed"] == 5
    assert (
        run_rows(run | {"settings": {"criterion": "PPM" + GLOBAL, "seed": 5}})[0].get("neuron_seed") is None
    )


def test_labels_of_results():
    assert criterion_of("WANDA-SP-GLOBAL") is REGISTRY["WANDA-SP"] is find_criterion("wanda-sp")
    assert criterion_of("none") is None and criterion_of("another") is None
    with pytest.raises(WidthPruneError, match="criterion must be one of PPM, MAW, .*, PPM-ACT, got 'none'"):
        find_criterion("none")
    with pytest.raises(WidthPruneError, match="criterion must be one of ACT, .*, PPM-ACT, got 'PPM'"):
        find_criterion("PPM", needs_text=True)
