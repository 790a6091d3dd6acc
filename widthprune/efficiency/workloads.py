"""Workloads: what is generated when energy and time are measured, the paper's six and two that need no data.

Who only names one, to check what was measured, imports no torch.
"""

import random
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import WidthPruneError, in_one_line
from ..evaluation.suites import find_benchmarks
from ..report.tasks import data_dir
from .meter import check_meter

GENERATED_TOKENS = 128  # length of each generated prompt


@dataclass(frozen=True)
class Workload:
    """Prompts of one source, answered in batches (paper, section 3.4)."""

    task: str  # lm-eval's task, or "generated"
    prompts: int
    max_new_tokens: int
    batch_size: int


def _pair(task: str, prompts: int, max_new_tokens: int) -> dict[str, Workload]:
    """The two names of the published runs: one request at a time, and eight."""
    return {
        f"{task}_latency_b1": Workload(task, prompts, max_new_tokens, 1),
        f"{task}_throughput_b8": Workload(task, prompts, max_new_tokens, 8),
    }


WORKLOADS = {
    **_pair("hellaswag", 100, 20),
    **_pair("mmlu", 100, 50),
    **_pair("ifeval", 30, 150),
    **_pair("generated", 30, 64),
}


def find_workload(name: str) -> Workload:
    """A workload by name.

    >>> find_workload("mmlu_latency_b1").max_new_tokens
    50
    """
    if name not in WORKLOADS:
        raise WidthPruneError(f"workload must be one of {', '.join(WORKLOADS)}, got {name!r}")
    return WORKLOADS[name]


def check_run(model: str, workloads: Iterable[str], random_weights: bool, energy: bool) -> None:
    """Refuse in time what a run of these workloads would fail for: the model's files, data, the meter."""
    from ..evaluation.readiness import check_data, check_ready
    from ..models.loading import load_tokenizer, local_directory

    tasks = list(dict.fromkeys(find_workload(name).task for name in workloads))
    texts = [task for task in tasks if task != "generated"]
    if not random_weights:
        check_ready(model, tokenizer=bool(texts))
        # Generated prompts need none, and yet loading the model reads what is there of one.
        load_tokenizer(local_directory(model, weights=False))
    elif len(tasks) == len(texts):
        raise WidthPruneError(
            "random_weights have no tokenizer: add a generated workload, whose prompts are tokens"
        )
    if texts and len(texts) == len(tasks):
        with tempfile.TemporaryDirectory() as scratch:
            check_data(find_benchmarks(texts, scratch))
    if energy:
        check_meter()


def read_prompts(workload: Workload, count: int, seed: int, tokenizer, vocab_size: int) -> list[list[int]]:
    """``count`` prompts as tokens, drawn with ``seed``; tasks with subtasks give evenly from each.

    Raises
    ------
    WidthPruneError
        If the task's data cannot be had, has fewer items than asked for, or there is no tokenizer.
    """
    if workload.task == "generated":
        return generated_prompts(count, GENERATED_TOKENS, vocab_size, seed)
    if tokenizer is None:
        raise WidthPruneError(
            f"workload {workload.task} needs a tokenizer: give a model that has one, or a generated workload"
        )
    texts = _texts(workload.task, data_dir())
    if len(texts) < count:
        raise WidthPruneError(
            f"prompts must be at most {len(texts)}, the items of {workload.task}, got {count}"
        )
    with in_one_line(f"the tokenizer fails on a question of {workload.task}", "copy its files again"):
        return [tokenizer(text)["input_ids"] for text in random.Random(seed).sample(texts, count)]


def generated_prompts(count: int, length: int, vocab_size: int, seed: int) -> list[list[int]]:
    """Prompts of ``length`` random tokens: no data, no tokenizer, no difference in length.

    >>> [len(prompt) for prompt in generated_prompts(2, 5, 97, seed=0)]
    [5, 5]
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, vocab_size, (count, length), generator=generator).tolist()


@lru_cache  # MMLU takes half a minute to read, and every width and seed asks for it
def _texts(task: str, where: Path | None) -> list[str]:
    """The question of every item, as lm-eval asks it without examples; subtasks take turns."""
    with tempfile.TemporaryDirectory() as scratch:
        (benchmark,) = find_benchmarks([task], scratch)
        if benchmark.missing:
            raise WidthPruneError(f"{task}: {benchmark.missing}")
        leaves = [*benchmark.loaded["tasks"].values()]
        each = min(len(leaf.eval_docs) for leaf in leaves)
        # The same number from each subtask, or a draw would be mostly of the largest.
        return [str(leaf.doc_to_text(leaf.eval_docs[i])) for i in range(each) for leaf in leaves]
