"""Energy of a piece of work in joules, gross and net of idle, with how each part was obtained.

codecarbon's ``stop()`` returns emissions, kg CO2eq, and the published joules per token are those read
as kWh. So the return value is never looked at here; energies come from ``final_emissions_data`` in
kWh, and a total that is not the sum of its parts is refused.
"""

import inspect
import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import WidthPruneError
from .analysis import JOULES_PER_KWH

PARTS = ("cpu", "gpu", "ram")
# codecarbon's names for the ways it obtains a part, and what they mean.
_CPU_WAYS = {
    "Intel Rapl": "RAPL counter",
    "Intel Power Gadget": "Power Gadget counter",
    "Windows Emi": "Windows energy meter",
    "Cpu Load": "modelled: power from a table, scaled by load",
}
# codecarbon would else take every setting from the environment or from a file in the home or the current directory:
# joules are then the same whoever measures, and nothing is written or sent. All that have no value here are None.
_SETTINGS = {
    "project_name": "widthprune",
    "experiment_name": "widthprune",
    "measure_power_secs": 1,
    "api_call_interval": -1,
    "output_file": "emissions.csv",
    "output_handlers": [],
    "output_methods": [],
    "save_to_file": False,
    "save_to_api": False,
    "save_to_logger": False,
    "save_to_prometheus": False,
    "save_to_logfire": False,
    "log_level": "critical",
    "on_csv_write": "append",
    "logger_preamble": "",
    "pue": 1.0,
    "wue": 0,
    "force_mode_cpu_load": False,
    "rapl_include_dram": False,
    "rapl_prefer_psys": False,
    "allow_multiple_runs": True,
    # The country sets the carbon intensity alone, which no number here uses.
    "country_iso_code": "USA",
}
_NO_SETTINGS = {"args", "kwargs", "co2_signal_api_token"}  # the last is an old name of another


@dataclass
class Reading:
    """Energy of one window: joules per part, None where a part was not measured."""

    joules: dict[str, float | None] = field(default_factory=dict)
    window_s: float = math.nan
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def total_j(self) -> float | None:
        """Sum of the parts; None if one was not measured."""
        values = [self.joules[part] for part in PARTS]
        return None if None in values else sum(values)

    def net(self, idle_w: Mapping[str, float | None]) -> "Reading":
        """The same window without what the machine would have used anyway, part by part."""
        joules = {
            part: None if None in (j, idle_w[part]) else j - idle_w[part] * self.window_s
            for part, j in self.joules.items()
        }
        return Reading(joules, self.window_s, self.sources)

    @property
    def power_w(self) -> dict[str, float | None]:
        """Mean power per part."""
        return {part: None if j is None else j / self.window_s for part, j in self.joules.items()}


def offline_tracker(tracking_mode: str = "machine"):
    """codecarbon's tracker, without network, log or file; of the whole machine or of this "process".

    The user's own settings of codecarbon, from the environment or a file, change nothing.

    Raises
    ------
    WidthPruneError
        If codecarbon is not installed.
    """
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError:
        raise WidthPruneError(
            "measuring energy needs codecarbon: pip install 'widthprune[energy]', or leave energy out"
        ) from None
    # It announces itself before it has read its own log level.
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    # Not every version that is allowed knows all of them.
    known = {name for kind in OfflineEmissionsTracker.__mro__ for name in inspect.signature(kind).parameters}
    settings = {name: _SETTINGS.get(name) for name in known - _NO_SETTINGS}
    return OfflineEmissionsTracker(
        **settings | {"tracking_mode": tracking_mode, "output_dir": tempfile.gettempdir()}
    )


def check_meter() -> None:
    """Refuse in time what `measured` would refuse after the work: a meter that is not there or cannot start."""
    with measured():
        pass


@contextmanager
def measured(make_tracker: Callable = offline_tracker):
    """Yield a `Reading` of the work inside the block; it is filled in at the block's end.

    ``make_tracker`` gives an object with codecarbon's ``start``, ``stop`` and ``final_emissions_data``.

    Raises
    ------
    WidthPruneError
        If codecarbon is not installed or measured nothing.
    """
    reading, tracker = Reading(), make_tracker()
    tracker.start()
    try:
        yield reading
    finally:
        tracker.stop()  # returns kg CO2eq
    # It hides its own errors, such as a file of settings that it cannot read.
    if getattr(tracker, "final_emissions_data", None) is None:
        raise WidthPruneError(
            "codecarbon measured nothing: mend its .codecarbon.config, here or in the home directory, or leave energy out"
        )
    found = read_energy(tracker.final_emissions_data, part_sources(tracker))
    reading.joules, reading.window_s, reading.sources = found.joules, found.window_s, found.sources


def measure_idle(seconds: float = 10, make_tracker: Callable = offline_tracker) -> Reading:
    """Energy of ``seconds`` in which this process does nothing: its ``power_w`` is the idle power."""
    with measured(make_tracker) as reading:
        time.sleep(seconds)
    return reading


def read_energy(data, sources: Mapping[str, str]) -> Reading:
    """A `Reading` from codecarbon's emissions data, whose energies are in kWh.

    Raises
    ------
    WidthPruneError
        If the total is not the sum of the parts, as when emissions are given for energy.
    """
    kwh = {part: getattr(data, f"{part}_energy") for part in PARTS}
    total, parts = data.energy_consumed, sum(kwh.values())
    if not math.isclose(total, parts, rel_tol=1e-6, abs_tol=1e-15):
        raise WidthPruneError(
            f"energy_consumed must be the kWh of cpu, gpu and ram together, {parts:.4g}, got {total:.4g}: "
            "a value in kg CO2eq is no energy"
        )
    joules = {part: value * JOULES_PER_KWH for part, value in kwh.items()}
    sources = dict(sources)
    if sources.get("gpu") != "none" and joules["gpu"] == 0:
        joules["gpu"], sources["gpu"] = None, "not measured: the counter read 0 kWh"
    return Reading(joules, data.duration, sources)


def part_sources(tracker) -> dict[str, str]:
    """How codecarbon obtains each part on this machine: a counter, or a constant from a table."""
    sources = {"cpu": "none", "gpu": "none", "ram": "none"}
    for hardware in tracker._hardware:
        kind, _, how = repr(hardware).partition("(")
        how = how.rstrip(")")
        if kind == "CPU":
            sources["cpu"] = _CPU_WAYS.get(how, f"constant from a table: {how}")
            if "table" in sources["cpu"]:
                sources["cpu"] += f" ({getattr(hardware, '_tdp', None)} W)"
        elif kind == "GPU":
            sources["gpu"] = f"energy counter: {how}"
        elif kind == "RAM":
            sources["ram"] = "modelled: a constant from the installed memory"
        else:
            sources["cpu"] = f"{kind} {how}"
    return sources
