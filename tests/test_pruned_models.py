"""One supplier: each point's model is the one that pruning by itself gives, narrowed or not."""

from dataclasses import replace

import pytest
import torch
from conftest import logits

from widthprune import calibrate, load_model, prune_model
from widthprune.calibration import Calibration
from widthprune.criteria import GLOBAL, criterion_of
from widthprune.evaluation import pruned_models
from widthprune.evaluation.grid import grid
from widthprune.evaluation.pruned_models import PrunedModels

TEXT = Calibration(["the question and the answer", "of the test", "the test of the answer"])
SWEEPS = [["PPM"], ["RANDOM"], ["FLAP", "TAYLOR", "FLAP-BIAS"], ["PPM", "L2"], ["FLAP", "PPM"]]


@pytest.mark.parametrize("last", [False, True], ids=["whole", "narrowed"])
@pytest.mark.parametrize("criteria", SWEEPS, ids="-".join)
def test_every_point_is_as_pruned_by_itself(criteria, last, language_model):
    model, tokenizer = load_model(language_model)
    looks = calibrate(model, tokenizer, TEXT, gradients=True)
    points = grid(88, 32, pruning_pcts=[20, 40], criteria=criteria, neuron_seeds=[None, 5])
    models = PrunedModels(language_model, seed=3, calibration=TEXT, final=points[-1] if last else None)
    for point in points:
        found = models.at(point)[0]
        record, options = criterion_of(point.criterion), dict(size=point.intermediate_size, activations=looks)
        seed = 3 if point.neuron_seed is None else point.neuron_seed
        expected = prune_model(model, record.name, seed=seed, **options) if record else model
        assert torch.equal(logits(found), logits(expected)), point
    # Narrowed in place only where nothing later needs the whole, and no text must be run again.
    narrowed = last and not criterion_of(criteria[-1]).needs_text
    assert (models.at(points[-1])[0] is found) == narrowed


def test_global_widths(language_model):
    (_, point) = grid(88, 32, pruning_pcts=[40], criteria=["L2"])
    point = replace(point, criterion="L2" + GLOBAL)
    expected = prune_model(load_model(language_model)[0], "L2", pruning_pct=40, global_widths=True)
    assert torch.equal(logits(PrunedModels(language_model, final=point).at(point)[0]), logits(expected))


def test_the_model_is_loaded_and_run_over_text_once(language_model, monkeypatch):
    calls = []
    for name in ("load_model", "calibrate", "score_model"):
        own = getattr(pruned_models, name)
        monkeypatch.setattr(pruned_models, name, lambda *a, o=own, n=name, **k: calls.append(n) or o(*a, **k))
    models = PrunedModels(language_model, calibration=TEXT)
    for point in grid(88, 32, pruning_pcts=[20, 40], criteria=["PPM", "AMP", "FLAP"]):
        models.at(point)
    assert sorted(calls) == ["calibrate", "load_model", *["score_model"] * 3]
