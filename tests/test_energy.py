"""Energy: what a meter said, or that none did."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from widthprune.reruns.energy import measure_energy, total_energy


def meter(monkeypatch, tracker):
    module = ModuleType("codecarbon")
    module.OfflineEmissionsTracker = tracker
    monkeypatch.setitem(sys.modules, "codecarbon", module)
    monkeypatch.setattr("widthprune.reruns.energy.metadata.version", lambda name: "3.0")


class Meter:
    """Says 3 Wh, and remembers how it was made."""

    made = {}

    def __init__(self, *, save_to_file=True, **kwargs):
        Meter.made = {"save_to_file": save_to_file} | kwargs

    def start(self):
        pass

    def stop(self):
        self.final_emissions_data = SimpleNamespace(
            energy_consumed=0.003, cpu_energy=0.001, gpu_energy=0.002, ram_energy=0.0
        )


def test_what_the_meter_said(monkeypatch):
    meter(monkeypatch, Meter)
    with measure_energy() as energy:
        assert energy == {}
    assert energy["energy_kwh"] == 0.003 and energy["energy_by"] == "codecarbon 3.0, process mode"
    assert Meter.made["tracking_mode"] == "process" and not Meter.made["save_to_file"]


def test_without_a_meter_there_is_no_number(monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with measure_energy() as energy:
        pass
    assert energy == {"energy_by": "not measured"}


def test_a_meter_that_fails_loses_nothing(monkeypatch):
    class Broken(Meter):
        def stop(self):
            raise RuntimeError

    meter(monkeypatch, Broken)
    with measure_energy() as energy:
        pass
    assert energy == {"energy_by": "not measured"}


def test_a_sum_needs_every_part():
    one = {"energy_kwh": 0.5, "cpu_kwh": 0.5, "energy_by": "codecarbon"}
    assert total_energy([one, one]) == {"energy_kwh": 1.0, "cpu_kwh": 1.0, "energy_by": "codecarbon"}
    assert total_energy([one, {"energy_by": "not measured"}]) == {"energy_by": "not measured"}
    assert total_energy([]) == {"energy_by": "not measured"}


def test_the_real_meter():
    with measure_energy() as energy:
        sum(range(10**7))
    assert energy["energy_by"].startswith("codecarbon ")
    parts = energy["cpu_kwh"] + energy["gpu_kwh"] + energy["ram_kwh"]
    assert 0 < energy["energy_kwh"] == pytest.approx(parts)
