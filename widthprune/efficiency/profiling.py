"""Profile a model over a grid of widths: time and energy per workload, protocol and seed, one file a run."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm
from transformers import AutoConfig

from ..architectures import SHAPES, paper_config, random_model
from ..commands.options import COUNT, SECONDS, SEED, check_list, check_model_name
from ..criteria import find_criterion
from ..errors import COPY_AGAIN, WidthPruneError, in_one_line
from ..evaluation.grid import PAPER_PCTS, Point, grid
from ..evaluation.pruned_models import PrunedModels
from ..evaluation.readiness import check_numbers, check_results_dir
from ..models.loading import check_placement, local_directory, model_revision, model_shape
from ..report.provenance import clock_mhz, device_name, record
from ..report.results import PROFILE_COLUMNS, tidy
from ..report.runs import find_run, run_path, run_rows, write_run
from ..report.schema import METRIC_FIELDS
from ..sizes import expansion_ratio, kept_size
from .bandwidth import bytes_per_token, read_bandwidth
from .generation_timing import PROTOCOLS, TimedBatch, time_batch
from .meter import PARTS, Reading, measure_idle, measured
from .workloads import WORKLOADS, check_run, find_workload, read_prompts

SEEDS = (42, 123, 456)  # of the published runs
TOO_LONG = f"give fewer max_new_tokens, or leave the workload out; or {COPY_AGAIN}"
WARM_UP = 2  # batches generated before the clock and the meter start


def profile_model(
    model: str,
    workloads: Sequence[str] = tuple(WORKLOADS),
    *,
    protocols: Sequence[str] = PROTOCOLS,
    pruning_pcts: Iterable[float] = PAPER_PCTS,
    criterion: str = "PPM",
    multiples: Sequence[int] = (1,),
    random_weights: bool = False,
    prompts: int | None = None,
    max_new_tokens: int | None = None,
    seeds: Sequence[int] = SEEDS,
    energy: bool = True,
    idle_s: float = 10,
    results_dir: str = "results",
    dtype: str = "auto",
    device: str = "cpu",
    dry_run: bool = False,
) -> pd.DataFrame:
    """Measure time and energy of generation at every width asked for; resumes as `evaluate` does.

    Parameters
    ----------
    model : str
        As for `load_model`; with ``random_weights`` also a shape of the paper, such as "Llama-3.2-1B".
    workloads, protocols : sequence of str
        Of ``WORKLOADS``, and of "free" (an answer ends at its end of sequence, as in the paper) and
        "fixed" (exactly ``max_new_tokens``, so that every width does the same work).
    criterion : str
        One of `CRITERIA`: which neurons stay does not change times, so those that look at data are refused.
    multiples : sequence of int
        Kept sizes are rounded up to a multiple of each of these in turn: see `kept_size`.
    random_weights : bool
        Build the shapes and draw the weights. Time and energy under "fixed" do not depend on them.
    prompts, max_new_tokens : int, optional
        Instead of the workload's own.
    seeds : sequence of int
        Each draws other prompts and is a run of its own.
    energy : bool
        Measure it with codecarbon, net of an idle period of ``idle_s`` seconds before each model.
    dtype, device
        As for `load_model`; the model computes in this dtype, too, whatever the processor.
    dry_run : bool
        Check all that the measuring would need, and measure and write nothing.

    Returns
    -------
    DataFrame
        Columns as `load_profiles`, old and new runs. ``attrs["missing"]`` maps each workload that
        could not be run to the reason; ``attrs["asked"]`` and ``attrs["stored"]`` count the runs, and
        those that were there before.

    Raises
    ------
    WidthPruneError
        Before anything is measured, if an argument is out of range or the model cannot be had.
    """
    find_criterion(criterion, needs_text=False)  # which neurons stay changes no time
    workloads, protocols, multiples, seeds = _check(
        workloads, protocols, multiples, seeds, prompts, max_new_tokens, idle_s
    )
    check_placement(dtype, device)
    check_model_name(model)
    sizes = _shape(model, random_weights)
    shared = {
        "model": model,
        "revision": "random weights" if random_weights else model_revision(model),
        "weights": "random" if random_weights else "trained",
        "num_fewshot": 0,
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "device": device_name(device),
        "energy": energy,
    }
    asked = []
    for point, multiple in _aligned(*sizes, pruning_pcts, criterion, multiples):
        for name in workloads:
            work = find_workload(name)
            work = replace(
                work, prompts=prompts or work.prompts, max_new_tokens=max_new_tokens or work.max_new_tokens
            )
            for protocol in protocols:
                for seed in seeds:
                    settings = shared | {k: v for k, v in vars(point).items() if v is not None}
                    settings |= {"task": name, "protocol": protocol, "limit": work.prompts, "seed": seed}
                    settings |= {"batch_size": work.batch_size, "max_new_tokens": work.max_new_tokens}
                    asked.append((point, work, settings | {"multiple_of": multiple}))
    todo = [entry for entry in asked if find_run(results_dir, entry[2]) is None]
    if todo or dry_run:
        check_run(model, workloads, random_weights, energy)
        check_results_dir(results_dir, [run_path(results_dir, settings) for _, _, settings in todo])
    missing = {}
    if not dry_run:
        missing = _run(todo, results_dir, random_weights, idle_s if energy else None, dtype, device)
    runs = [run for _, _, s in asked if (run := find_run(results_dir, s))]
    table = tidy(pd.DataFrame([row for run in runs for row in run_rows(run)]), PROFILE_COLUMNS)
    table.attrs |= {"missing": missing, "asked": len(asked), "stored": len(asked) - len(todo)}
    return table


def _run(todo, results_dir, random_weights, idle_s, dtype, device) -> dict[str, str]:
    """Make every run that is not there yet; why a workload could not be run, by its name."""
    missing, last, idle = {}, None, None
    if not todo:
        return missing
    bandwidth = read_bandwidth(device)
    trained = None
    if not random_weights:
        # What is timed is the arithmetic, so here no machine chooses it: dtype names it.
        name = todo[0][2]["model"]
        trained = PrunedModels(name, dtype=dtype, device=device, compute_dtype="weights")
    for point, work, settings in tqdm(todo, desc="profiling", unit="run"):
        if settings["task"] in missing:
            continue
        if point != last:
            model = None  # before the next one is made
            if trained is None:
                config = _config(settings["model"], point.intermediate_size)
                model, tokenizer = random_model(config, dtype, device), None
            else:
                model, tokenizer = trained.at(point)
            last, idle = point, measure_idle(idle_s).power_w if idle_s is not None else None
        vocabulary = model.config.get_text_config().vocab_size
        try:
            prompts = read_prompts(work, work.prompts, settings["seed"], tokenizer, vocabulary)
        except WidthPruneError as error:
            missing[settings["task"]] = str(error)
            continue
        with record(device) as provenance:
            metrics, sources = profile_prompts(
                model, prompts, work.batch_size, work.max_new_tokens, settings["protocol"], idle
            )
            clock = clock_mhz(device)
        metrics.append(_metric("limit_ms_per_token", 1000 * bytes_per_token(model) / bandwidth))
        metrics.append(_metric("read_bandwidth_gb_s", bandwidth / 1e9))
        # A meter's own words may hold characters that no results file has.
        plain = {part: re.sub(r"[^A-Za-z0-9 ._:,/()@+-]", "", text) for part, text in sources.items()}
        provenance |= {"sources": json.dumps(plain), "clock_mhz": clock}
        write_run(results_dir, settings, metrics, provenance)
    return missing


def profile_prompts(
    model, prompts, batch_size: int, max_new_tokens: int, protocol: str, idle_w=None, measure=measured
) -> tuple[list[dict], dict[str, str]]:
    """Metrics of one loaded model on given prompts, and how each part of the energy was obtained.

    ``idle_w`` is the idle power per part; None leaves energy out. Warm-up is not in any number, and
    the energy window holds the generation of the counted tokens alone.
    """
    fails, eos = f"{type(model).__name__} fails on a prompt", _eos(model)
    batches = [prompts[i : i + batch_size] for i in range(0, len(prompts), batch_size)]

    def generate(some=batches):
        with in_one_line(fails, TOO_LONG):
            return [time_batch(model, batch, max_new_tokens, protocol=protocol, eos=eos) for batch in some]

    generate(batches[:WARM_UP])
    memory = _PeakMemory(model.device)

    if idle_w is None:
        timed, gross = generate(), None
    else:
        with measure() as gross:
            timed = generate()
    metrics = time_metrics(timed)
    metrics += [_metric("model_size_gib", model.get_memory_footprint(return_buffers=False) / 2**30)]
    metrics += [_metric("peak_memory_gib", peak)] if (peak := memory.gib()) is not None else []
    if gross is None:
        return metrics, {}
    return metrics + energy_metrics(gross, idle_w, sum(b.new_tokens for b in timed)), gross.sources


def time_metrics(timed: Sequence[TimedBatch]) -> list[dict]:
    """Times in ms over batches, tokens and tokens per second, as rows for a results file."""
    steps = [step for batch in timed for step in batch.step_s]
    columns = {
        "ttft_ms": [1000 * batch.first_token_s for batch in timed],
        "ttlt_ms": [1000 * batch.last_token_s for batch in timed],
        # Over every token after a first one, so that long answers weigh as much as they last.
        "ms_per_token": [1000 * step for step in steps],
        "steps": [1.0 + len(batch.step_s) for batch in timed],
    }
    metrics = [row for name, values in columns.items() if values for row in _spread(name, values)]
    tokens, seconds = sum(b.new_tokens for b in timed), sum(b.last_token_s for b in timed)
    metrics.append(_metric("new_tokens", float(tokens), len(timed)))
    return [*metrics, _metric("throughput_tok_s", tokens / seconds, len(timed))]


def energy_metrics(gross: Reading, idle_w, tokens: int) -> list[dict]:
    """Joules of the window, gross and net, by part and in total; only what was measured has a row."""
    net = gross.net(idle_w)
    metrics = [_metric("energy_window_s", gross.window_s)]
    for name, reading in (("gross", gross), ("net", net)):
        values = {part: reading.joules[part] for part in PARTS} | {"total": reading.total_j}
        metrics += [_metric(f"{name}_j_{part}", j) for part, j in values.items() if j is not None]
        if reading.total_j is not None:
            metrics.append(_metric(f"{name}_j_per_token", reading.total_j / tokens, tokens))
    return metrics + [_metric(f"idle_w_{part}", w) for part, w in idle_w.items() if w is not None]


def _spread(name, values) -> list[dict]:
    """Mean with its standard error, median, standard deviation and percentiles."""
    n, sd = len(values), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    rows = [_metric(f"{name}_mean", float(np.mean(values)), n, None if n < 2 else sd / math.sqrt(n))]
    rows += [_metric(f"{name}_sd", sd, n)] if n > 1 else []
    return rows + [_metric(f"{name}_p{p}", float(np.percentile(values, p)), n) for p in (5, 50, 95)]


def _metric(metric, value, n=None, stderr=None) -> dict:
    return dict(zip(METRIC_FIELDS, (metric, float(value), stderr, n), strict=True))


def _config(name: str, intermediate_size: int):
    """The config of a paper's shape, or of a model that `load_model` could load, with another width."""
    if name in SHAPES:
        return paper_config(name, intermediate_size=intermediate_size)
    config = AutoConfig.from_pretrained(local_directory(name, weights=False), trust_remote_code=False)
    config.get_text_config().intermediate_size = intermediate_size
    return config


def _shape(model: str, random_weights: bool) -> tuple[int, int]:
    if random_weights and model in SHAPES:
        return paper_config(model).intermediate_size, paper_config(model).hidden_size
    return model_shape(model)


def _aligned(size, hidden, pruning_pcts, criterion, multiples) -> list[tuple[Point, int]]:
    """The points of the grid at each alignment; the unpruned model once."""
    points = grid(size, hidden, pruning_pcts=pruning_pcts, criteria=[criterion])
    found = [(points[0], 1)]
    for multiple in multiples:
        for point in points[1:]:
            kept = kept_size(size, hidden, pruning_pct=point.pruning_pct, multiple_of=multiple)
            ratio = round(expansion_ratio(kept, hidden), 4)
            found.append((replace(point, intermediate_size=kept, expansion_ratio=ratio), multiple))
    return found


def _eos(model) -> list[int]:
    config = getattr(model, "generation_config", None)
    eos = config.eos_token_id if config is not None else None
    eos = model.config.get_text_config().eos_token_id if eos is None else eos
    ends = eos if isinstance(eos, list | tuple) else [eos]
    if any(isinstance(end, bool) or not isinstance(end, int | None) for end in ends):
        raise WidthPruneError(
            f"the model's eos_token_id must be numbers of tokens, got {eos!r:.60}: {COPY_AGAIN}"
        )
    return [end for end in ends if end is not None]


class _PeakMemory:
    """Peak memory since this object was made: of the device, or of the process where it is the CPU."""

    def __init__(self, device):
        self._device, self._reset = device, False
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif Path("/proc/self/clear_refs").exists():
            try:
                Path("/proc/self/clear_refs").write_text("5")
                self._reset = True
            except OSError:
                pass

    def gib(self) -> float | None:
        """In GiB; None where the system does not tell."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**30
        if not self._reset:
            return None
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**20


def _check(workloads, protocols, multiples, seeds, prompts, max_new_tokens, idle_s) -> list[list]:
    """The lists among the arguments, each value once, after all were found to be of their kind."""
    named = {"workloads": (workloads, None), "protocols": (protocols, None)}
    named |= {"multiples": (multiples, COUNT), "seeds": (seeds, SEED)}
    lists = [list(dict.fromkeys(check_list(name, *given))) for name, given in named.items()]
    for name in lists[0]:
        find_workload(name)
    if wrong := [p for p in lists[1] if p not in PROTOCOLS]:
        raise WidthPruneError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {wrong[0]!r}")
    counts = {"prompts": prompts, "max_new_tokens": max_new_tokens}
    check_numbers({COUNT: counts, SECONDS: {"idle_s": idle_s}})
    return lists
