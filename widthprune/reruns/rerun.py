"""`widthprune rerun`: one command from a question to the book of its answer.

A thin front: it checks, writes the plan, and hands it to Snakemake, which decides what must run.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from ..commands.interrupts import uninterrupted
from ..commands.options import (
    COUNT,
    PERCENTAGE,
    PRICE,
    RATIO,
    SEED,
    Distinct,
    check_writable,
    criterion,
    folder,
    model_name,
)
from ..criteria import REGISTRY
from ..errors import WidthPruneError
from ..evaluation.readiness import check_results_dir
from ..models.packaged import PACKAGED
from ..report.escaping import as_line
from ..report.runs import public_name
from .damage import damaged, jobs_in_store, mend, stored
from .experiments import EXPERIMENTS
from .plan import Request, check_folder, make_plan
from .records import write_plan

WORKFLOW = Path(__file__).parent / "workflow"
PROFILES = ("local", "slurm", "kubernetes")
STOPPING_S = 10  # that a job has to clean up after it was asked to stop


def add_rerun(commands) -> None:
    command = commands.add_parser("rerun", help="measure new ratios or a new model, and build their book")
    command.set_defaults(run=rerun)
    default = Request("")
    several = {"nargs": "+", "action": Distinct}
    command.add_argument(
        "--model", type=model_name, required=True, help="a packaged model, a local directory or a hub id"
    )
    command.add_argument(
        "--ratios", type=RATIO, **several, default=[], help="expansion ratios, d_ff / d_model"
    )
    command.add_argument(
        "--pruning-pcts", type=PERCENTAGE, **several, default=[], metavar="PCT", help="further widths"
    )
    command.add_argument(
        "--criteria",
        type=criterion,
        **several,
        default=list(default.criteria),
        help=f"default PPM; of {', '.join(REGISTRY)}",
    )
    command.add_argument("--suite", default=default.suite, help="pocket (default), paper, paper-instruct")
    command.add_argument(
        "--experiments", **several, help=f"of {', '.join(EXPERIMENTS)}; default {' '.join(_defaults())}"
    )
    command.add_argument("--limit", type=COUNT, help="items per task, a seeded random subset; default all")
    command.add_argument("--seed", type=SEED, default=default.seed)
    command.add_argument("--device", default=default.device, help="cpu (default), cuda, mps")
    command.add_argument("--batch-size", type=COUNT, default=default.batch_size)
    command.add_argument(
        "--chat-template", action="store_true", help="measure in the tokenizer's chat template as well"
    )
    command.add_argument(
        "--out", type=folder, help="the run's folder; default runs/ and a name made of the question"
    )
    command.add_argument(
        "--store", type=folder, help="measured results of many runs; default beside the run's folder"
    )
    command.add_argument(
        "--project", type=folder, help="the clone with the notebooks; default the one installed from"
    )
    command.add_argument("--cores", type=COUNT, default=2, help="models measured at a time, here; default 2")
    command.add_argument(
        "--profile", default="local", help="local (default), slurm, kubernetes, or a folder of yours"
    )
    command.add_argument("--price-per-kwh", type=PRICE, help="for the record, in any currency; default none")
    command.add_argument("--dry-run", action="store_true", help="check, list the jobs, write nothing")


def rerun(options) -> None:
    """Run, or go on with, what the options ask; the folder's record says what was done."""
    request = _request(options)
    out = options.out or Path("runs") / _name(request)
    store = options.store or out.absolute().parent / "measured"
    check_folder(out)
    check_writable("store must be a folder that can be written", store)
    if out.exists():
        # Said at once; the lock that counts is taken below.
        with _locked(out):
            pass
    command = _snakemake(options, out)
    plan = make_plan(request, options.project or _project(), store, here=options.profile == "local")
    plan["price_per_kwh"] = options.price_per_kwh
    results = [folder / file for folder, files in jobs_in_store(plan) for file in files.values()]
    check_results_dir(store, results, "store")
    done = f"asked, {stored(plan)} of them stored" if options.dry_run else f"go to {out}"
    print(f"{len(plan['jobs'])} jobs, {len(results)} results {done}", flush=True)
    for task, reason in plan["missing"].items():
        print(f"missing: {task}: {reason}")
    for path in damaged(plan):
        print(f"damaged, so it counts as not there: {as_line(path)}")
    if options.dry_run:
        for name, job in plan["jobs"].items():
            print(f"{name}, {job['point']['expansion_ratio']:g}x: {', '.join(job['files'])}")
        return
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out) as lock:
        mend(out, plan)
        write_plan(out, plan)
        status = _run(command, lock)
    if status:
        raise WidthPruneError(
            f"{out} is not complete, see above: mend it, and the same command goes on there"
        )
    print(out / "_build" / "html" / "index.html")


def _run(command: list[str], lock: int) -> int:
    """Run a command that holds the lock, too; when this process is stopped, so is all that it started."""
    import psutil

    process = subprocess.Popen(command, pass_fds=[lock])
    try:
        return process.wait()
    except BaseException:
        with uninterrupted(), suppress(psutil.NoSuchProcess):
            # Snakemake would wait for its jobs to end, so they are stopped themselves.
            started = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
            for each in started:
                with suppress(psutil.NoSuchProcess):
                    each.terminate()
            for each in psutil.wait_procs(started, timeout=STOPPING_S)[1]:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait()
        raise


def _request(options) -> Request:
    here = options.model not in PACKAGED and Path(options.model).exists()
    model = str(Path(options.model).resolve()) if here else options.model
    experiments = options.experiments or _defaults(len({*options.ratios, *options.pruning_pcts} - {0}))
    named = vars(options) | {"model": model, "experiments": experiments}
    chosen = {name: named[name] for name in asdict(Request(""))}
    return Request(**{name: tuple(v) if isinstance(v, list) else v for name, v in chosen.items()})


def _defaults(widths: int = 2) -> list[str]:
    """The default experiments that so many widths are enough for."""
    return [name for name in Request("").experiments if EXPERIMENTS[name].least_widths <= widths]


def _name(request: Request) -> str:
    """A folder's name for a question: what it is about, and a hash of all of it."""
    key = hashlib.sha256(json.dumps(asdict(request)).encode()).hexdigest()[:6]
    ratios = "-".join(f"{ratio:g}x" for ratio in request.ratios) or "widths"
    model = public_name(request.model).partition("@")[0].split("/")[-1]
    return f"{model}-{ratios}-{request.suite}-{key}"


def _project() -> Path:
    """The clone that this package is installed from, else the current folder."""
    clone = Path(__file__).parent.parent.parent
    return clone if (clone / "notebooks").is_dir() else Path(".")


def _snakemake(options, out: Path) -> list[str]:
    try:
        import grimp  # noqa: F401
        import snakemake  # noqa: F401
    except ImportError:
        raise WidthPruneError(
            "rerun needs Snakemake and grimp: pip install 'widthprune[evaluation,book,rerun]'"
        ) from None
    profile = (
        WORKFLOW / "profiles" / options.profile if options.profile in PROFILES else Path(options.profile)
    )
    if not options.profile or not os.path.isfile(profile / "config.yaml"):
        raise WidthPruneError(
            f"profile must be one of {', '.join(PROFILES)} or a folder with a config.yaml, got {options.profile!r}"
        )
    command = [sys.executable, "-m", "snakemake", "--snakefile", WORKFLOW / "Snakefile", "--directory", out]
    # Our lock is one that a kill releases; Snakemake's own would have to be removed by hand.
    command += ["--workflow-profile", profile.resolve(), "--nolock", "--quiet", "host", "rules", "reason"]
    if options.profile == "local":
        command += ["--cores", options.cores, "--resources", "gpu=1"]
    return [str(word) for word in command]


@contextmanager
def _locked(folder: Path):
    """Hold a folder for one rerun; the lock ends with the last process that holds the file, however it ends."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise WidthPruneError(
                f"out: another rerun works in {folder}: wait for it, or name another folder"
            ) from None
        yield file.fileno()
