"""Records: what they count, by hand, and what they do not claim."""

import json

import pytest

from widthprune.reruns.records import make_record, without_path

PLAN = {
    "request": {"model": "m", "limit": 3},
    "notebooks": {},
    "revision": "sha256:abc",
    "missing": {"gsm8k": "no file"},
    "jobs": {"none-88-seed0": {"code": "c0ffee"}},
    "price_per_kwh": 0.5,
}
RUNS = [
    {
        "settings": {"task": task, "seed": seed, "data": f"sha256:{task}"},
        "provenance": {
            "started": f"2026-01-0{seed + 1}",
            "duration_s": 1.25,
            "device": "cpu: X",
            "threads": 1,
        },
    }
    for task, seed in (("piqa", 0), ("boolq", 1))
]
READING = {"energy_kwh": 0.2, "cpu_kwh": 0.2, "energy_by": "codecarbon"}


def record(*jobs, price=0.5):
    return make_record(PLAN | {"price_per_kwh": price}, dict(enumerate(jobs)), RUNS)


def test_a_record_by_hand():
    found = record({"measured": ["a", "b"], "found": []} | READING)
    assert found["duration_s"] == 2.5 and found["seeds"] == [0, 1] and found["started"] == "2026-01-01"
    assert found["data"] == {"piqa": "sha256:piqa", "boolq": "sha256:boolq"}
    assert found["devices"] == ["cpu: X"] and found["missing"] == {"gsm8k": "no file"}
    assert found["energy"]["cost"] == pytest.approx(0.1)
    assert found["energy"]["covers"] == "2 measured, not 0 that were there before"


def test_a_job_that_found_everything_adds_no_energy():
    worked = {"measured": ["a"], "found": []} | READING
    idle = {"measured": [], "found": ["b"]} | READING
    energy = record(worked, idle)["energy"]
    assert energy["energy_kwh"] == 0.2 and energy["covers"] == "1 measured, not 1 that were there before"


def test_no_reading_gives_no_number():
    energy = record({"measured": ["a"], "found": [], "energy_by": "not measured"})["energy"]
    assert energy["energy_by"] == "not measured" and "cost" not in energy and "energy_kwh" not in energy
    assert "cost" not in record({"measured": ["a"], "found": []} | READING, price=None)["energy"]


def test_text_does_not_tell_where_a_local_model_lay(tmp_path):
    model = str(tmp_path / "tiny é")
    text = without_path(json.dumps({"model": model, "missing": f"no tokenizer in {model}"}), model)
    assert json.loads(text) == {"model": "tiny", "missing": "no tokenizer in tiny"}
    cell = json.dumps({"source": f"model = {ascii(model)}"})
    assert json.loads(without_path(cell, model)) == {"source": "model = 'tiny'"}
    assert without_path('{"m": "org/name"}', "org/name") == '{"m": "org/name"}'
