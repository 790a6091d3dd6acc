"""Energy: a known power for a known time, and what must not be taken for energy."""

import inspect
from types import SimpleNamespace

import pytest
from codecarbon import OfflineEmissionsTracker

from widthprune import WidthPruneError
from widthprune.efficiency import meter
from widthprune.efficiency.meter import (
    Reading,
    check_meter,
    measure_idle,
    measured,
    part_sources,
    read_energy,
)
from widthprune.efficiency.profiling import energy_metrics
from widthprune.reruns.energy import measure_energy

IDLE = {"cpu": 10.0, "gpu": 0.0, "ram": 5.0}


class FakeTracker:
    """40 W of CPU and 5 W of memory for 20 s; ``stop`` returns kg CO2eq, as codecarbon's does."""

    _hardware = ()

    def start(self):
        self.started = True

    def stop(self):
        cpu, ram = 40 * 20 / 3.6e6, 5 * 20 / 3.6e6
        self.final_emissions_data = SimpleNamespace(
            cpu_energy=cpu, gpu_energy=0.0, ram_energy=ram, energy_consumed=cpu + ram, duration=20.0
        )
        return 0.35 * (cpu + ram)


def test_joules_per_token_by_hand():
    with measured(FakeTracker) as reading:
        pass
    values = {row["metric"]: row["value"] for row in energy_metrics(reading, IDLE, tokens=100)}
    assert values["gross_j_per_token"] == pytest.approx(9.0)  # 45 W for 20 s over 100 tokens
    assert values["net_j_per_token"] == pytest.approx(6.0)  # 30 W of them are not idle
    assert values["net_j_ram"] == pytest.approx(0.0)


def test_emissions_are_no_energy():
    class Swapped(FakeTracker):
        def stop(self):
            self.final_emissions_data = None
            kilograms = super().stop()
            self.final_emissions_data.energy_consumed = kilograms

    with pytest.raises(WidthPruneError, match="a value in kg CO2eq is no energy"), measured(Swapped):
        pass


def test_a_gpu_counter_of_zero_is_not_measured():
    data = SimpleNamespace(cpu_energy=1e-4, gpu_energy=0.0, ram_energy=0.0, energy_consumed=1e-4, duration=9)
    reading = read_energy(data, {"cpu": "RAPL counter", "gpu": "energy counter: X", "ram": "modelled"})
    assert reading.joules["gpu"] is None and reading.sources["gpu"].startswith("not measured")
    metrics = [row["metric"] for row in energy_metrics(reading, reading.power_w, 10)]
    assert "gross_j_cpu" in metrics and not any("per_token" in m or "gpu" in m for m in metrics)


def test_without_a_gpu_the_total_is_whole():
    data = SimpleNamespace(cpu_energy=1e-4, gpu_energy=0.0, ram_energy=0.0, energy_consumed=1e-4, duration=9)
    assert read_energy(data, {"gpu": "none"}).total_j == pytest.approx(360)


class Hardware:
    def __init__(self, text):
        self._text, self._tdp = text, 65

    def __repr__(self):
        return self._text


def test_how_each_part_was_obtained():
    hardware = [Hardware("CPU(Intel Rapl)"), Hardware("GPU(NVIDIA L4)"), Hardware("RAM()")]
    assert part_sources(SimpleNamespace(_hardware=hardware)) == {
        "cpu": "RAPL counter",
        "gpu": "energy counter: NVIDIA L4",
        "ram": "modelled: a constant from the installed memory",
    }
    load = part_sources(SimpleNamespace(_hardware=[Hardware("CPU(Cpu Load)")]))
    assert load["cpu"] == "modelled: power from a table, scaled by load (65 W)"


def test_net_of_idle_is_by_part():
    net = Reading({"cpu": 800.0, "gpu": None, "ram": 100.0}, 20.0).net(IDLE)
    assert net.joules == {"cpu": 600.0, "gpu": None, "ram": 0.0} and net.total_j is None


def test_the_real_tracker_says_what_it_read():
    reading = measure_idle(0.2)
    assert reading.window_s >= 0.2 and set(reading.sources) == {"cpu", "gpu", "ram"}
    assert reading.joules["ram"] > 0 and "modelled" in reading.sources["ram"]


HOSTILE = {"pue": "1.5", "output_dir": "/no/such/folder", "force_ram_power": "900", "force_cpu_power": "9000"}
HOSTILE |= {"tracking_mode": "nobody", "measure_power_secs": "often", "save_to_file": "true", "gpu_ids": "7"}
HOSTILE |= {"output_methods": "csv", "save_to_api": "true", "force_mode_cpu_load": "true", "wue": "3"}
HOSTILE |= {"emissions_endpoint": "http://localhost:1", "cloud_provider": "gcp", "country_iso_code": "FRA"}


def ram_power():
    """codecarbon models it as a constant, so that it tells whether anything was scaled or forced."""
    return measure_idle(0.6).power_w["ram"]


@pytest.mark.parametrize("where", ["environment", "home", "current directory"])
def test_the_users_settings_of_codecarbon_change_no_joule(where, tmp_path, monkeypatch):
    plain = ram_power()
    monkeypatch.chdir(tmp_path)
    if where == "environment":
        for name, value in HOSTILE.items():
            monkeypatch.setenv(f"CODECARBON_{name.upper()}", value)
    else:
        folder = tmp_path / where
        folder.mkdir()
        monkeypatch.chdir(folder) if where != "home" else monkeypatch.setenv("HOME", str(folder))
        lines = [f"{name} = {value}" for name, value in HOSTILE.items()]
        (folder / ".codecarbon.config").write_text("\n".join(["[codecarbon]", *lines]))
    before = sorted(tmp_path.rglob("*"))
    # A busy machine stretches so short a window; the least of the settings would make it half as much again.
    assert ram_power() == pytest.approx(plain, rel=0.25)
    assert measure_idle(0.2).power_w["cpu"] < 900
    with measure_energy() as energy:
        pass
    assert energy["energy_kwh"] > 0 and sorted(tmp_path.rglob("*")) == before


def test_no_setting_of_codecarbon_is_misspelt():
    known = {name for kind in OfflineEmissionsTracker.__mro__ for name in inspect.signature(kind).parameters}
    assert {*meter._SETTINGS, *meter._NO_SETTINGS, "tracking_mode", "output_dir"} <= known


def test_settings_of_codecarbon_that_cannot_be_read_are_one_line(tmp_path, monkeypatch):
    (tmp_path / ".codecarbon.config").write_text("pue = 1.5")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WidthPruneError, match="^codecarbon measured nothing: mend its .codecarbon.config"):
        check_meter()
    with measure_energy() as energy:
        pass
    assert energy == {"energy_by": "not measured"}
