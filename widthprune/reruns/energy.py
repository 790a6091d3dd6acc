"""Energy of a piece of work, where codecarbon is installed to measure it; never a guess of ours."""

import contextlib
from contextlib import contextmanager
from importlib import metadata

NOT_MEASURED = "not measured"


@contextmanager
def measure_energy():
    """Yield a dict that holds, at the block's end, what codecarbon measured of this process.

    Keys: ``energy_kwh`` with its parts ``cpu_kwh``, ``gpu_kwh`` and ``ram_kwh``, and ``energy_by``; or
    ``energy_by`` alone, saying that nothing measured. CPU is this process's share, so that jobs side by side
    may be summed; a GPU is counted whole. RAM power is codecarbon's model, with some watts for any process
    however small, and so is CPU power where the processor has no counter that can be read.
    """
    # Here, since reading what was measured needs no torch.
    from ..efficiency.meter import offline_tracker

    found = {}
    tracker = data = None
    # No meter, or one that fails, must not lose the measurement it stands beside.
    with contextlib.suppress(Exception):
        tracker = offline_tracker(tracking_mode="process")
        tracker.start()
    try:
        yield found
    finally:
        with contextlib.suppress(Exception):
            tracker.stop()
            data = tracker.final_emissions_data
        found |= _readings(data)


def total_energy(parts) -> dict:
    """Sum of readings; ``energy_by`` says that nothing was measured if any of them says so."""
    parts = list(parts)
    if not parts or any("energy_kwh" not in part for part in parts):
        return {"energy_by": NOT_MEASURED}
    keys = [key for key in parts[0] if key.endswith("_kwh")]
    return {key: sum(part[key] for part in parts) for key in keys} | {"energy_by": parts[0]["energy_by"]}


def _readings(data) -> dict:
    if data is None:
        return {"energy_by": NOT_MEASURED}
    return {
        "energy_kwh": data.energy_consumed,
        "cpu_kwh": data.cpu_energy,
        "gpu_kwh": data.gpu_energy,
        "ram_kwh": data.ram_energy,
        "energy_by": f"codecarbon {metadata.version('codecarbon')}, process mode",
    }
