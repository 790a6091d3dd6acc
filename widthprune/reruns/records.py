"""What lies in a run's folder: its plan, and the record that another person needs to repeat it and to judge its cost.

Neither tells of this machine's folders; those lie beside them in a hidden file, which the same command
given again, here or where the folder was moved to, writes anew.
"""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import WidthPruneError
from ..report.atomic import write_atomically
from ..report.provenance import versions
from ..report.runs import public_name
from .energy import total_energy

PACKAGES = ("widthprune", "torch", "transformers", "lm_eval", "numpy", "snakemake", "papermill", "codecarbon")
PLAN, PATHS, RECORD = "plan.json", ".here.json", "record.json"


def write_plan(folder: Path, plan: Mapping) -> None:
    """Write the plan of `make_plan` into a run's folder, which must exist; each file whole or not at all."""
    here = {"model": plan["request"]["model"], "project": plan["project"], "store": plan["store"]}
    public = json.dumps({name: plan[name] for name in plan if name not in here}, indent=1)
    write_atomically(folder / PATHS, json.dumps(here, indent=1) + "\n")
    write_atomically(folder / PLAN, without_path(public, here["model"]) + "\n")


def read_plan(folder: Path) -> dict:
    """The plan of a run's folder; a local model stands in it by its name alone."""
    return read_json(folder, PLAN)


def read_here(folder: Path) -> dict:
    """This machine's "model", "project" and "store" of a run's folder."""
    return read_json(folder, PATHS)


def read_record(folder: Path) -> dict:
    """The record of a run's folder, as far as two are compared; somebody else may have written it.

    Raises
    ------
    WidthPruneError
        If it is damaged, or no record.
    """
    record = read_json(folder, RECORD)
    parts = [record.get(name) for name in ("parameters", "data", "versions")]
    if not all(isinstance(part, dict) for part in parts) or "model_revision" not in record:
        raise WidthPruneError(f"{folder / RECORD} is no record of a rerun: copy the run's folder again")
    return record


def results_of(folder: Path) -> Path:
    """The results directory of a run's folder; any other folder is one itself.

    Raises
    ------
    WidthPruneError
        If the folder is a run's, and its record is not there.
    """
    if (folder / RECORD).exists():
        return folder / "results"
    if (folder / PLAN).exists():
        raise WidthPruneError(
            f"{folder} is the folder of a rerun without its {RECORD}: give that rerun's command again, "
            f"or name {folder / 'results'}"
        )
    return folder


def read_json(folder: Path, name: str | Path) -> dict:
    """A file of a run's folder that holds a JSON object.

    Raises
    ------
    WidthPruneError
        If it is gone or damaged.
    """
    try:
        file = folder / name
        # A pipe, which a stranger's folder may hold, would be waited for without end.
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise WidthPruneError(f"{folder} holds no whole {name}: name the folder of a rerun")
    return found


def make_record(plan: Mapping, jobs: Mapping[str, Mapping], runs: Iterable[Mapping]) -> dict:
    """One run's record.

    Parameters
    ----------
    plan : mapping
        As `read_plan` gives it.
    jobs : mapping
        Name of each job to what it left: start, results measured and found, energy.
    runs : iterable
        Every results file of the run, as `widthprune.report.runs.read_run` gives it.

    Returns
    -------
    dict
        Parameters, model revision, data hashes, seeds, versions, devices, ``duration_s`` (sum over results, in
        seconds of one device), energy, what is missing, and the code that scored.
    """
    runs = list(runs)
    provenances = [run["provenance"] for run in runs]
    return {
        "parameters": plan["request"],
        "notebooks": plan["notebooks"],
        "model_revision": plan["revision"],
        "data": {run["settings"]["task"]: run["settings"].get("data", "") for run in runs},
        "seeds": sorted({run["settings"]["seed"] for run in runs}),
        "limit": plan["request"]["limit"],
        "results": len(runs),
        "missing": plan["missing"],
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
    for form in (model, ascii(model)[1:-1]):  # the second is how papermill writes a parameter
        for written in (json.dumps(form)[1:-1], json.dumps(form, ensure_ascii=False)[1:-1], form):
            text = text.replace(written, name)
    return text


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
