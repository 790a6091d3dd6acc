"""The record of a run: what another person needs to repeat it and to judge its cost."""

import json
import os
import platform
from collections.abc import Iterable, Mapping

from ..report.provenance import versions
from ..report.results import public_name
from .energy import total_energy

PACKAGES = ("widthprune", "torch", "transformers", "lm_eval", "numpy", "snakemake", "papermill", "codecarbon")


def make_record(plan: Mapping, jobs: Mapping[str, Mapping], runs: Iterable[Mapping]) -> dict:
    """One run's record.

    Parameters
    ----------
    plan : mapping
        As `widthprune.reruns.plan.make_plan` gives it.
    jobs : mapping
        Name of each job to what it left: start, results measured and found, energy.
    runs : iterable
        Every results file of the run, as `widthprune.report.results.read_run` gives it.

    Returns
    -------
    dict
        Parameters, with a local model by its directory's name alone; model revision, data hashes, seeds, versions, devices, ``duration_s`` (sum over
        results, in seconds of one device), energy, what is missing, and the code that scored.
    """
    runs = list(runs)
    named = json.loads(
        without_path(
            json.dumps({name: plan[name] for name in ("request", "notebooks", "missing")}),
            plan["request"]["model"],
        )
    )
    provenances = [run["provenance"] for run in runs]
    return {
        "parameters": named["request"],
        "notebooks": named["notebooks"],
        "model_revision": plan["revision"],
        "data": {run["settings"]["task"]: run["settings"].get("data", "") for run in runs},
        "seeds": sorted({run["settings"]["seed"] for run in runs}),
        "limit": plan["request"]["limit"],
        "results": len(runs),
        "missing": named["missing"],
        "code": {name: it["code"] for name, it in plan["jobs"].items()},
        "commits": _each(provenances, "commit"),
        "devices": _each(provenances, "device"),
        "threads": _each(provenances, "threads"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "versions": versions(PACKAGES),
        "started": min((p["started"] for p in provenances), default=""),
        "duration_s": round(sum(p["duration_s"] for p in provenances), 1),
        "energy": _energy(jobs, plan["price_per_kwh"]),
    }


def without_path(text: str, model: str) -> str:
    """JSON text in which a local model stands by its name, wherever its path was."""
    if not os.path.isabs(model):
        return text
    name = public_name(model)
    return text.replace(json.dumps(model)[1:-1], name).replace(model, name)


def _energy(jobs: Mapping[str, Mapping], price: float | None) -> dict:
    """Energy of the jobs that measured; those that found all their results used none worth the name."""
    worked = [job for job in jobs.values() if job["measured"]]
    found = sum(len(job["found"]) for job in jobs.values())
    # An earlier run, or an attempt that was killed, used energy that nobody read.
    covers = f"{sum(len(job['measured']) for job in worked)} measured, not {found} that were there before"
    energy = total_energy(worked) | {"covers": covers}
    if price is not None and "energy_kwh" in energy:
        energy |= {"price_per_kwh": price, "cost": energy["energy_kwh"] * price}
    return energy


def _each(provenances, key) -> list:
    return sorted({p.get(key) for p in provenances if p.get(key) not in (None, "")})
