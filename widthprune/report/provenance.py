"""Where a number comes from: software, commit, device, time. Stored with every result."""

import platform
import subprocess
import time
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("widthprune", "torch", "transformers", "numpy", "lm_eval", "codecarbon")


@contextmanager
def record(device="cpu"):
    """Yield a provenance dict for the work inside the block; ``duration_s`` is filled in at its end.

    >>> with record() as provenance:
    ...     work = sum(range(10))
    >>> sorted(provenance)
    ['commit', 'device', 'duration_s', 'packages', 'python', 'started', 'threads']
    """
    import torch  # here, as in all of this module: who reads provenance needs none

    provenance = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": versions(PACKAGES),
    }
    start = time.perf_counter()
    yield provenance
    provenance["duration_s"] = round(time.perf_counter() - start, 3)


def device_name(device) -> str:
    """The device as its maker names it: ``NVIDIA L4``, or ``cpu: <model name>``."""
    import torch

    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu: {_cpu_says('model name') or platform.processor() or platform.machine()}"
    return device.type


def clock_mhz(device) -> float | None:
    """Clock of the first core, or of the GPU, at this moment; None where the system does not tell."""
    import torch

    if torch.device(device).type == "cuda":
        return float(torch.cuda.clock_rate(device))
    return float(clock) if (clock := _cpu_says("cpu MHz")) else None


@cache
def git_commit() -> str:
    """Commit of the checkout this package runs from, ``+dirty`` when it differs; empty outside one.

    Asked once a process, at its first result: most of what runs was read by then, whatever the checkout holds later.
    """
    # From a notebook of a repository of their own, the caller's commit would be the wrong one.
    here = Path(__file__).parents[1]
    if not (here.parent / ".git").exists():
        return ""
    try:
        git = ["git", "-C", str(here)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "."], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("+dirty" if changed.stdout else "")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Version of each of these packages that is installed."""
    found = {}
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _cpu_says(field: str) -> str:
    """A field of the first core, as Linux tells it; empty elsewhere."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def short_commit(commit: str) -> str:
    """A commit as texts show it, nine digits, and whether the checkout differed from it."""
    return commit[:9] + "+dirty" * commit.endswith("+dirty")
