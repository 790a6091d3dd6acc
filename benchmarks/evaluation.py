"""A sweep of benchmarks against lm-eval's own HFLM on the same pruned models, tasks and items.

    WIDTHPRUNE_DATA=... python benchmarks/evaluation.py [--model smollm2-135m-instruct]
        [--tasks truthfulqa_mc2 ...] [--limit 50] [--pruning-pcts 0 40] [--batch-size 8]

Both sides run in this process, task by task in turn, on models pruned beforehand; the stock side is
given each model in memory, so loading counts for neither. Prints seconds, their ratio, the ratio of
processor times (which other work on the machine disturbs less) and the largest difference between the
scores, in standard errors too, for every task and in all.
"""

import argparse
import contextlib
import io
import logging
import math
import tempfile
import time

import numpy as np
from lm_eval.models.huggingface import HFLM

from widthprune import prune_model, score_model
from widthprune.evaluation.engine.prefix_lm import PrefixLM
from widthprune.evaluation.grid import grid
from widthprune.evaluation.measure import measure
from widthprune.evaluation.suites import find_benchmarks
from widthprune.models.loading import load_model, model_shape
from widthprune.report.tasks import TASKS


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tasks", nargs="+", default="paper", help="tasks or one suite, default paper")
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--pruning-pcts", nargs="+", type=float, default=[0, 40])
    parser.add_argument("--batch-size", type=int, default=8, help="of the stock side")
    options = parser.parse_args()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    tasks = options.tasks[0] if options.tasks == ["paper"] else options.tasks
    model, tokenizer = load_model(options.model)
    points = grid(*model_shape(options.model), pruning_pcts=options.pruning_pcts)
    points = [point for point in points if point.pruning_pct in options.pruning_pcts]
    scores = score_model(model)
    models = [
        model if p.criterion == "none" else prune_model(model, pruning_pct=p.pruning_pct, scores=scores)
        for p in points
    ]
    print(
        f"{'task':26}{'stock, s':>10}{'ours, s':>10}{'ratio':>8}{'processor':>11}{'largest difference':>20}{'in s.e.':>9}"
    )
    total = {HFLM: np.zeros(2), PrefixLM: np.zeros(2)}
    with tempfile.TemporaryDirectory() as scratch:
        for benchmark in find_benchmarks(tasks, scratch):
            if benchmark.missing:
                print(f"{benchmark.task:26} missing: {benchmark.missing}")
                continue
            benchmark.loaded  # noqa: B018
            seconds, found = {}, {}
            for kind in (HFLM, PrefixLM):
                seconds[kind], found[kind] = run(kind, models, tokenizer, benchmark, options)
                total[kind] += seconds[kind]
            pairs = list(zip(found[HFLM], found[PrefixLM], strict=True))
            largest = max(abs(a["value"] - b["value"]) for a, b in pairs)
            errors = [abs(a["value"] - b["value"]) / a["stderr"] for a, b in pairs if a["stderr"]]
            line = times(benchmark.task, seconds)
            print(f"{line}{largest:20.4g}{max(errors, default=math.nan):9.2f}", flush=True)
    print(times("all", total))


def times(name, seconds):
    """The first columns of a row: seconds by the wall clock, their ratio, and that of processor times."""
    stock, ours = seconds[HFLM], seconds[PrefixLM]
    wall, processor = stock / ours
    return f"{name:26}{stock[0]:10.1f}{ours[0]:10.1f}{wall:8.1f}{processor:11.1f}"


def run(kind, models, tokenizer, benchmark, options):
    """(seconds by the wall clock and by the processor's, headline rows) of one task on every model."""
    rows, start = [], clocks()
    for model in models:
        with contextlib.redirect_stderr(io.StringIO()):
            lm = kind(
                pretrained=model, tokenizer=tokenizer, batch_size=options.batch_size, softmax_dtype="float32"
            )
        measured, _ = measure(lm, benchmark, options.limit, seed=0)
        rows += [row for row in measured if row["metric"] == TASKS[benchmark.task].metric]
    return clocks() - start, rows


def clocks():
    return np.array([time.perf_counter(), time.process_time()])


if __name__ == "__main__":
    main()
