"""Evaluate a model over a grid of widths with lm-eval, one results file per run, resuming for free."""

import logging
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from ..calibration import Calibration
from ..commands.options import check_model_name
from ..criteria import GLOBAL, check_across_layers, criterion_of, find_criterion
from ..errors import WidthPruneError
from ..models.arithmetic import check_compute_dtype
from ..models.loading import check_chat_template, model_revision, model_shape
from ..report.provenance import record
from ..report.results import find_run, run_path, run_rows, tidy, write_run
from .grid import PAPER_PCTS, Point, grid
from .measure import measure
from .pruned_models import PrunedModels
from .readiness import check_data, check_evaluation, check_ready, check_results_dir
from .samples import samples_path, write_samples
from .suites import Benchmark, find_benchmarks


def evaluate(
    model: str,
    tasks: str | Sequence[str] = "pocket",
    *,
    pruning_pcts: Iterable[float] = PAPER_PCTS,
    expansion_ratios: Iterable[float] = (),
    criteria: Iterable[str] = ("PPM",),
    points: Sequence[Point] | None = None,
    limit: int | None = None,
    seed: int = 0,
    neuron_seeds: Iterable[int] = (),
    results_dir: str = "results",
    save_samples: bool = False,
    dtype: str = "auto",
    device: str = "cpu",
    compute_dtype: str = "auto",
    batch_size: int = 8,
    max_length: int | None = None,
    chat_template: bool = False,
    backend: str = "hf",
    calibration: Calibration | None = None,
    global_widths: bool = False,
    dry_run: bool = False,
) -> pd.DataFrame:
    """Measure benchmarks on one model at every width asked for.

    Every result is written as soon as it is there, and found again by the next call with the same
    settings: an interrupted sweep goes on where it stopped, and loses the task in flight at most.

    Parameters
    ----------
    model : str
        As for `load_model`.
    tasks : str or sequence of str
        A suite ("pocket", "paper", "paper-instruct") or lm-eval tasks of theirs.
    pruning_pcts, expansion_ratios, criteria
        The grid. The unpruned model is always part of it.
    points : sequence of Point, optional
        Exactly these models instead of that grid: a part of a sweep, for one job of many.
    limit : int, optional
        Items per task, a random subset drawn with ``seed``: the same items at every width. A group
        such as MMLU spreads its limit evenly over its tasks, at least one each. None takes all.
    seed : int
        Draws the subset, and the neurons of ``RANDOM``.
    neuron_seeds : iterable of int, optional
        Draws of ``RANDOM``'s neurons, each measured on the same items; default ``seed`` alone.
    results_dir : str
        Where the results files are read and written.
    save_samples : bool
        Write what the model answered to every item beside each result: see `widthprune.evaluation.samples`. A
        result that lacks it is measured again.
    dtype, device
        As for `load_model`. Log-probabilities are taken in float32 whatever the dtype.
    compute_dtype : str
        The dtype of the arithmetic: see `widthprune.models.arithmetic.compute_in`. Part of a result's
        provenance, not of its settings: a result is found again whichever arithmetic made it.
    batch_size : int
        Rows at once where lm-eval's own code runs; the numbers do not depend on it beyond rounding.
    max_length : int, optional
        Longest text in tokens, default the model's own: shortening it raises perplexities.
    chat_template : bool
        Put each prompt as a user's turn into the tokenizer's chat template, and each example before it
        as a turn and its answer. The code released with the paper does not.
    backend : str
        "hf" reads each prefix once, or by lm-eval's own class what cannot be read so (`widthprune.evaluation.engine.choice`
        says so in a line; the provenance names the engine). "stock" is lm-eval's own class for all.
        "vllm" on a machine that has it: each pruned model is then saved to a temporary directory and
        read by lm-eval's vLLM class.
    calibration : Calibration, optional
        What the criteria that look at data look at; default the package's own text, drawn from
        with ``seed``. Part of a result's settings under those criteria, and of no other's.
    global_widths : bool
        As for `prune_model`. The table then says PPM-GLOBAL, and the size is the mean over layers.
    dry_run : bool
        Check all that the measuring would need, and measure and write nothing.

    Returns
    -------
    DataFrame
        The runs of this grid as tidy rows, old and new. ``attrs["missing"]`` maps each task that
        could not be measured to the reason; ``attrs["asked"]`` and ``attrs["stored"]`` count the runs, and
        those that were there before.

    Raises
    ------
    WidthPruneError
        Before anything is measured, if an argument is out of range or the model cannot be pruned.
    """
    check_evaluation(
        limit=limit,
        seed=seed,
        neuron_seeds=neuron_seeds,
        batch_size=batch_size,
        max_length=max_length,
        dtype=dtype,
        device=device,
    )
    _check_backend(backend)
    check_model_name(model)
    check_compute_dtype(compute_dtype)
    size, hidden = model_shape(model)
    if chat_template:
        check_chat_template(model)
    if points is None:
        points = grid(
            size,
            hidden,
            pruning_pcts=pruning_pcts,
            expansion_ratios=expansion_ratios,
            criteria=criteria,
            # The seed of the sweep is what RANDOM uses when none is named: one result, not two.
            neuron_seeds=[None if s == seed else s for s in dict.fromkeys(neuron_seeds)] or [None],
        )
    if global_widths:
        for criterion in {p.criterion for p in points} - {"none"}:
            check_across_layers(find_criterion(criterion))
        points = [p if p.criterion == "none" else replace(p, criterion=p.criterion + GLOBAL) for p in points]
    # A copy of the weights may be narrowed from width to width: the unpruned first, then draw by draw, the widest first.
    draws = list(dict.fromkeys((point.criterion, point.neuron_seed) for point in points))
    points = sorted(
        points,
        key=lambda p: (
            p.criterion != "none",
            draws.index((p.criterion, p.neuron_seed)),
            -p.intermediate_size,
        ),
    )
    calibration = calibration or Calibration(seed=seed)
    # lm-eval and its libraries log and draw bars at every step; the one bar below is enough.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        benchmarks = find_benchmarks(tasks, scratch)
        missing = {b.task: b.missing for b in benchmarks if b.missing}
        asked = [(point, b) for point in points for b in benchmarks if not b.missing]
        settings = run_settings(
            model,
            asked,
            limit=limit,
            seed=seed,
            dtype=dtype,
            max_length=max_length,
            chat_template=chat_template,
            backend=backend,
            calibration=calibration,
        )
        runs = [find_run(results_dir, s) for s in settings]
        whole = [
            run and (not save_samples or samples_path(results_dir, s).exists())
            for run, s in zip(runs, settings, strict=True)
        ]
        todo = [i for i, there in enumerate(whole) if not there]
        stored = len(asked) - len(todo)
        if todo or dry_run:
            check_ready(model)
            check_results_dir(results_dir, [run_path(results_dir, settings[i]) for i in todo])
        if dry_run:
            check_data(benchmarks)
            todo = []
        final = asked[todo[-1]][0] if todo else None
        pruned = PrunedModels(
            model,
            dtype=dtype,
            device=device,
            # vLLM reads the pruned weights from disk, and chooses for itself.
            compute_dtype="weights" if backend == "vllm" else compute_dtype,
            seed=seed,
            calibration=calibration,
            final=final,
        )
        readers = _Readers(pruned, dtype, backend, scratch)
        bar = tqdm(todo, desc=f"evaluating {model}", unit="run", disable=not todo)
        for i in bar:
            point, benchmark = asked[i]
            if benchmark.task in missing:
                continue
            try:
                _ = benchmark.loaded
            except WidthPruneError as error:
                missing[benchmark.task] = str(error)
                continue
            bar.set_postfix_str(f"{benchmark.task} at {point.pruning_pct:g}% {point.criterion}")
            lm = readers.at(point, batch_size, max_length)
            try:
                with record(device) as provenance:
                    metrics, answered = measure(lm, benchmark, limit, seed, chat_template)
            except WidthPruneError as error:
                missing[benchmark.task] = str(error)
                continue
            provenance |= pruned.precision()
            provenance["engine"] = "vllm" if backend == "vllm" else lm.engine
            if metrics:
                # Before the result, which says that all is there.
                if save_samples:
                    write_samples(results_dir, settings[i], answered)
                write_run(results_dir, settings[i], metrics, provenance)
                runs[i] = find_run(results_dir, settings[i])
    rows = [row for run in runs if run is not None for row in run_rows(run)]
    table = tidy(pd.DataFrame(rows))
    table.attrs |= {"missing": missing, "asked": len(asked), "stored": stored}
    return table


def _check_backend(backend: str) -> None:
    if backend not in ("hf", "stock", "vllm"):
        raise WidthPruneError(f"backend must be hf, stock or vllm, got {backend!r}")
    if backend == "vllm" and find_spec("vllm") is None:
        raise WidthPruneError("backend vllm needs the package vllm: pip install vllm, or use backend hf")


def run_settings(
    model: str,
    asked: Iterable[tuple[Point, Benchmark]],
    *,
    limit: int | None,
    seed: int,
    dtype: str = "auto",
    max_length: int | None = None,
    chat_template: bool = False,
    backend: str = "hf",
    calibration: Calibration | None = None,
) -> list[dict]:
    """What identifies each run of a sweep: the ``settings`` of its results file."""
    shared = {"model": model, "revision": model_revision(model), "limit": limit, "seed": seed}
    shared |= {"dtype": str(dtype), "max_length": max_length}
    # Named only where they differ from what every earlier result was made with.
    if backend != "hf":
        shared["backend"] = backend
    if chat_template:
        shared["chat_template"] = True
    text = None
    found = []
    for point, benchmark in asked:
        looked_at = {}
        if (criterion := criterion_of(point.criterion)) and criterion.needs_text:
            text = text or (calibration or Calibration(seed=seed)).identity()
            looked_at = text
        found.append(shared | _point_settings(point) | _task_settings(benchmark) | looked_at)
    return found


def _point_settings(point: Point) -> dict:
    return {name: value for name, value in vars(point).items() if value is not None}


def _task_settings(benchmark: Benchmark) -> dict:
    return {
        "task": benchmark.task,
        "num_fewshot": benchmark.num_fewshot,
        "task_version": benchmark.version,
        "data": benchmark.data,
    }


class _Readers:
    """lm-eval's models of a sweep, each made when it is first needed."""

    def __init__(self, pruned: PrunedModels, dtype: str, backend: str, scratch: str):
        self._pruned, self._dtype, self._backend, self._scratch = pruned, dtype, backend, Path(scratch)
        self._last, self._engine = (None, None), None

    def at(self, point: Point, batch_size: int, max_length: int | None):
        """The lm-eval model of one point of the grid."""
        if self._last[0] != point:
            # The last one goes first, or two pruned models would be in memory.
            self._last = (None, None)
            wrap = self._vllm if self._backend == "vllm" else self._hf
            model, tokenizer = self._pruned.at(point)
            if tokenizer is None:
                raise WidthPruneError("evaluating needs a tokenizer, and the model's directory holds none")
            self._last = (point, wrap(model, tokenizer, batch_size, max_length))
        return self._last[1]

    def _hf(self, model, tokenizer, batch_size, max_length):
        from .engine.choice import StockLM, choose

        options = dict(batch_size=batch_size, max_length=max_length, softmax_dtype="float32")
        if self._engine is None:
            stock = self._backend == "stock"
            self._engine = StockLM if stock else choose(model, tokenizer, **options)
        return self._engine(pretrained=model, tokenizer=tokenizer, **options)

    def _vllm(self, model, tokenizer, batch_size, max_length):
        from lm_eval.api.registry import get_model

        saved = self._scratch / "model"
        shutil.rmtree(saved, ignore_errors=True)
        model.save_pretrained(saved)
        tokenizer.save_pretrained(saved)
        return get_model("vllm")(
            pretrained=str(saved), dtype=self._dtype, batch_size="auto", max_model_len=max_length
        )
