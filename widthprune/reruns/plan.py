"""The plan of a rerun: everything checked before any work starts, and every job with its results files.

A plan is plain JSON in the run's folder; the Snakemake workflow reads it, and this machine's paths beside it. A job is one pruned
model with every task asked of it, since loading and pruning it once per task would cost more than a task;
tasks in the chat template are a job of their own.
"""

import logging
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..commands.options import COUNT, PERCENTAGE, RATIO, SEED, check_list, check_model_name, check_writable
from ..criteria import find_criterion
from ..errors import WidthPruneError
from ..evaluation.readiness import check_data, check_numbers, check_ready, check_variants
from ..evaluation.settings import Settings
from ..evaluation.suites import find_benchmarks, resolve
from ..models.loading import check_placement, model_revision, model_shape
from ..models.templates import check_chat_template
from ..report.runs import run_path
from ..report.tasks import SUITES, TASKS
from .experiments import EXPERIMENTS, Run, check_experiments, needed_runs, notebook_parameters
from .fingerprint import all_code, scoring_code
from .records import PLAN

NEEDED_BYTES = 100e6  # executed notebooks and their book: a run of two ratios takes some 40 MB


@dataclass(frozen=True)
class Request:
    """One question to a model, as the user asked it."""

    model: str
    ratios: tuple[float, ...] = ()  # expansion ratios, d_ff / d_model
    pruning_pcts: tuple[float, ...] = ()  # further widths, as percentages of neurons removed
    criteria: tuple[str, ...] = ("PPM",)
    suite: str = "pocket"
    experiments: tuple[str, ...] = ("capabilities", "truthfulness")
    limit: int | None = None  # items per task
    seed: int = 0
    device: str = "cpu"
    batch_size: int = 8
    chat_template: bool = False  # measure what has a prompt in the chat template as well


def make_plan(request: Request, project: Path, store: Path, *, here: bool = True) -> dict:
    """Check a request and lay out its jobs.

    Parameters
    ----------
    request : Request
    project : Path
        The clone whose notebooks and book are used.
    store : Path
        Where measured results are kept, for this run and others.
    here : bool
        The jobs will run on this machine, so it must have the device; False for a cluster's.

    Returns
    -------
    dict
        "request"; "revision" of the model; "notebooks" (name -> parameters); "jobs" (name -> model of
        the grid, seed, whether in the chat template, code, and task -> results file); "missing"
        (task -> reason); "code".

    Raises
    ------
    WidthPruneError
        In one line that begins with the parameter at fault.
    """
    _check_values(request)
    if not (request.ratios or request.pruning_pcts):
        raise WidthPruneError("ratios: name at least one expansion ratio, as in --ratios 2.2 1.8")
    if request.suite not in SUITES:
        raise WidthPruneError(f"suite must be one of {', '.join(SUITES)}, got {request.suite!r}")
    if here:
        check_placement("auto", request.device)
    with _naming("criteria"):
        request = replace(request, criteria=tuple(find_criterion(name).name for name in request.criteria))
    chosen = asdict(request) | {"results_dir": "results"}
    notebooks = {}
    for name in check_experiments(request.experiments):
        path = project / "notebooks" / f"{EXPERIMENTS[name].notebook}.ipynb"
        notebooks[name] = notebook_parameters(path, chosen)
    with _naming("model"):
        check_model_name(request.model)
        shape = model_shape(request.model)
        check_ready(request.model)
        revision = model_revision(request.model)
    if request.chat_template:
        with _naming("chat-template"):
            check_chat_template(request.model)
    with _naming("ratios"):
        runs = _all_runs(request, notebooks, shape)
    with _naming("criteria"):
        text = Settings(limit=request.limit, seed=request.seed).text
        check_variants(request.model, {run.point for run in runs}, text)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        tasks = list(dict.fromkeys(run.task for run in runs))
        benchmarks = {benchmark.task: benchmark for benchmark in find_benchmarks(tasks, scratch)}
        with _naming("suite"):
            check_data(list(benchmarks.values()))
        return {
            "request": asdict(request),
            "revision": revision,
            "notebooks": {EXPERIMENTS[name].notebook: found for name, found in notebooks.items()},
            "jobs": _jobs(request, runs, benchmarks),
            "missing": {name: found.missing for name, found in benchmarks.items() if found.missing},
            "project": str(project.resolve()),
            "store": str(store.resolve()),
            "code": all_code(),
        }


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written or whose disk is full, before anything is made."""
    # What begins with a dot is the lock, or a plan that a kill left half-written.
    if folder.is_file() or (
        folder.exists()
        and not (folder / PLAN).exists()
        and any(path.name[0] != "." for path in folder.iterdir())
    ):
        raise WidthPruneError(f"out: {folder} holds something else than a rerun: name another folder")
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    check_writable("out must be a folder that can be written", folder)
    if (free := shutil.disk_usage(existing).free) < NEEDED_BYTES:
        raise WidthPruneError(
            f"out: the disk of {existing} has {free / 1e6:.0f} MB free and a run needs {NEEDED_BYTES / 1e6:.0f} MB: "
            "make room or name another folder"
        )


def _check_values(request: Request) -> None:
    check_list("ratios", request.ratios, RATIO)
    check_list("pruning_pcts", request.pruning_pcts, PERCENTAGE)
    check_list("criteria", request.criteria)
    check_list("experiments", request.experiments)
    counts = {"limit": request.limit, "batch_size": request.batch_size}
    check_numbers({COUNT: counts, SEED: {"seed": request.seed}})


def _all_runs(request, notebooks, shape) -> list[Run]:
    suite = resolve(request.suite)
    whole = asdict(request) | {"random_seeds": ()}
    # The perplexity of a whole text has no prompt that a template could hold.
    prompted = [task for task in suite if TASKS[task].metric != "word_perplexity"]
    # The suite itself is measured over the grid asked for, whichever notebooks show it.
    runs = needed_runs(suite, prompted, whole, shape)
    widths = len({run.point.intermediate_size for run in runs}) - 1
    for name, parameters in notebooks.items():
        experiment = EXPERIMENTS[name]
        if widths < experiment.least_widths:
            raise WidthPruneError(
                f"the experiment {name} needs at least {experiment.least_widths} below the model's own, got {widths}: "
                f"add one, or leave {name} out of --experiments"
            )
        runs += needed_runs(experiment.tasks, experiment.in_template, parameters, shape)
    return list(dict.fromkeys(runs))


def _jobs(request, runs, benchmarks) -> dict[str, dict]:
    code = {pruned: scoring_code(pruned) for pruned in (False, True)}
    jobs = {}
    for in_template in (False, True):
        asked = [
            (run.point, benchmarks[run.task])
            for run in runs
            if run.chat_template == in_template and not benchmarks[run.task].missing
        ]
        settings = Settings(limit=request.limit, seed=request.seed, chat_template=in_template)
        for (point, benchmark), found in zip(asked, settings.identities(request.model, asked), strict=True):
            draw = "" if point.neuron_seed is None else f"-draw{point.neuron_seed}"
            template = "-template" if in_template else ""
            name = f"{point.criterion}-{point.intermediate_size}-seed{request.seed}{draw}{template}"
            new = {
                "point": asdict(point),
                "seed": request.seed,
                "chat_template": in_template,
                "code": code[point.criterion != "none"],
                "files": {},
            }
            jobs.setdefault(name, new)["files"][benchmark.task] = str(run_path("", found))
    return jobs


@contextmanager
def _naming(parameter: str):
    try:
        yield
    except WidthPruneError as error:
        raise WidthPruneError(f"{parameter}: {error}") from error
