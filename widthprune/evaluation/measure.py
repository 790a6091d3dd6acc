"""One benchmark on one model: lm-eval runs and scores it, the numbers become rows of a results file."""

import contextlib
import io
import math
import os
from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats

from ..errors import COPY_AGAIN, WidthPruneError, in_one_line
from ..report.schema import METRIC_FIELDS
from .repeatable import repeatable
from .samples import records
from .suites import Benchmark

TOO_LONG = f"give a smaller max_length, or leave the task out; or {COPY_AGAIN}"
SEED = 1234  # lm-eval's own for examples, NumPy and torch


def measure(
    lm, benchmark: Benchmark, limit: int | None, seed: int, chat_template: bool = False
) -> tuple[list[dict], list[dict]]:
    """One task on one model: its metrics as rows for a results file, and a record for every item."""
    # Not its simple_evaluate, which asks pip, git and the operating system about the machine at every call.
    from lm_eval import evaluate

    with (
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
        in_one_line("the model cannot be measured on it", TOO_LONG),
        _told_what_does_not_fit(lm),
        _one_process(),
        repeatable(),
    ):
        # What else draws, seeded as lm-eval's command line does: examples, bootstraps.
        np.random.seed(SEED)
        torch.manual_seed(SEED)
        leaves = benchmark.loaded["tasks"]
        for leaf in leaves.values():
            # Where a task's own file says 0, its prompt holds its examples already.
            if leaf.get_config("num_fewshot") != 0:
                leaf.set_config(key="num_fewshot", value=benchmark.num_fewshot)
            leaf.set_fewshot_seed(seed=SEED)
        results = evaluate(
            lm,
            benchmark.loaded,
            samples=subset({name: len(leaf.eval_docs) for name, leaf in leaves.items()}, limit, seed),
            apply_chat_template=chat_template,
            fewshot_as_multiturn=True,
            bootstrap_iters=1000,
            log_samples=True,
        )
    n = sum(results["n-samples"][name]["effective"] for name in leaves)
    rows = []
    for name, value in results["results"][benchmark.task].items():
        metric, _, filtered = name.partition(",")
        if metric in ("alias", "name", "sample_len", "sample_count") or metric.endswith("_stderr"):
            continue
        if not isinstance(value, int | float):
            continue
        stderr = results["results"][benchmark.task].get(f"{metric}_stderr,{filtered}")
        if metric == "word_perplexity":
            stderr = perplexity_stderr([s[metric] for s in results["samples"][benchmark.task]])
        # GSM8K has two filters: strict-match and flexible-extract.
        suffix = "" if filtered in ("none", "") else f"_{filtered.split('-')[0]}"
        stderr = float(stderr) if isinstance(stderr, int | float) and math.isfinite(stderr) else None
        rows.append(dict(zip(METRIC_FIELDS, (metric + suffix, float(value), stderr, n), strict=True)))
    return rows, records(results["samples"])


@contextlib.contextmanager
def _one_process():
    """Inside, lm-eval draws its bootstraps here: it would fork, for one chunk, a process that has threads, which can hang."""
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = before


@contextlib.contextmanager
def _told_what_does_not_fit(lm):
    """lm-eval asserts that an answer has tokens and fits into a text, without saying which or why."""
    try:
        yield
    except AssertionError as error:
        raise WidthPruneError(
            f"an answer of it has no tokens, or more than max_length, which is {lm.max_length}: "
            "give a larger one, or leave the task out"
        ) from error


def subset(sizes: dict[str, int], limit: int | None, seed: int) -> dict[str, list[int]] | None:
    """Item numbers per task: a seeded random subset, spread evenly over the tasks of a group."""
    if limit is None:
        return None
    each = -(-limit // len(sizes))
    return {
        name: sorted(np.random.default_rng(seed).permutation(size)[:each].tolist())
        for name, size in sizes.items()
    }


def perplexity_stderr(samples: Sequence[tuple[float, float]]) -> float | None:
    """Bootstrap standard error, over documents, of exp(-sum of log-likelihoods / sum of words)."""
    loglikelihoods, words = np.asarray(samples, float).T
    if len(words) < 2 or not np.isfinite(loglikelihoods).all():
        return None

    def perplexity(total, count, axis=-1):
        return np.exp(-total.sum(axis) / count.sum(axis))

    with np.errstate(over="ignore"):
        found = stats.bootstrap(
            (loglikelihoods, words), perplexity, paired=True, n_resamples=1000, method="basic", rng=0
        )
    return float(found.standard_error)
