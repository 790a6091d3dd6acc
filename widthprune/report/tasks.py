"""The benchmarks: what each measures and on what, in which suites, and the side the paper puts it on."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ..errors import WidthPruneError


@dataclass(frozen=True)
class Task:
    """All that this package knows of one benchmark: a new one is an entry of `TASKS`, and nothing else.

    Its prompt, processing and scorers are lm-eval's, or stand in ``pocket/`` in lm-eval's format.
    """

    label: str
    metric: str  # the one the paper's text quotes
    side: str  # "fragile" or "robust": where the paper's dichotomy puts it (section 4)
    suites: tuple[str, ...]
    higher_is_better: bool = True
    num_fewshot: int = 0  # examples in the prompt (paper, section 3.3)
    items: int | None = None  # of the official benchmark, which the published runs used whole
    leaves: int = 1  # tasks that lm-eval makes of it
    folder: str = ""  # where lm-eval keeps its official files; "" for those of this package
    # Split -> JSON Lines file in the schema of the hub's dataset, under WIDTHPRUNE_DATA or the package's own data.
    # {dataset} stands for what a leaf names so, as MMLU's subjects do.
    files: Mapping[str, str] = field(default_factory=dict)


_BASE, _BOTH, _POCKET = ("paper",), ("paper", "paper-instruct"), ("pocket",)
_MUSR = ("murder_mysteries", "object_placements", "team_allocation")

# In the order of tables and figures, in which a sweep measures them, too.
TASKS = {
    "mmlu": Task(
        "MMLU", "acc", "fragile", _BOTH, num_fewshot=5, items=14042, leaves=57, folder="mmlu/default",
        files={split: f"mmlu/{split}/{{dataset}}.jsonl" for split in ("test", "dev")},
    ),
    "gsm8k": Task(
        "GSM8K", "exact_match_flexible", "fragile", _BOTH, num_fewshot=5, items=1319, folder="gsm8k",
        files={split: f"gsm8k/{split}.jsonl" for split in ("test", "train")},
    ),
    "wikitext": Task(
        "WikiText perplexity", "word_perplexity", "fragile", _BASE, higher_is_better=False, folder="wikitext",
        files={"test": "wikitext/test.jsonl"},
    ),
    "lambada_openai": Task(
        "LAMBADA perplexity", "perplexity", "fragile", _BOTH, higher_is_better=False, folder="lambada",
        files={"test": "lambada_openai/test.jsonl"},
    ),
    "arc_challenge": Task(
        "ARC-Challenge", "acc_norm", "fragile", _BASE, items=1172, folder="arc",
        files={"test": "arc_challenge/test.jsonl"},
    ),
    "hellaswag": Task(
        "HellaSwag", "acc_norm", "fragile", _BASE, items=10042, folder="hellaswag",
        files={"validation": "hellaswag/validation.jsonl"},
    ),
    "piqa": Task(
        "PIQA", "acc_norm", "fragile", _BASE, items=1838, folder="piqa",
        files={"validation": "piqa/validation.jsonl"},
    ),
    "winogrande": Task(
        "WinoGrande", "acc", "fragile", _BASE, items=1267, folder="winogrande",
        files={"validation": "winogrande/validation.jsonl"},
    ),
    "boolq": Task(
        "BoolQ", "acc", "fragile", _BASE, items=3270, folder="super_glue/boolq",
        files={"validation": "boolq/validation.jsonl"},
    ),
    "ifeval": Task(
        "IFEval", "prompt_level_strict_acc", "robust", _BOTH, items=541, folder="ifeval",
        files={"train": "ifeval/train.jsonl"},
    ),
    "leaderboard_musr": Task(
        "MuSR", "acc_norm", "robust", _BOTH, items=756, leaves=3, folder="leaderboard/musr",
        files={split: f"musr/{split}.jsonl" for split in _MUSR},
    ),
    "truthfulqa_mc1": Task(
        "TruthfulQA-MC1", "acc", "robust", _BOTH, items=817, folder="truthfulqa",
        files={"validation": "truthfulqa/validation.jsonl"},
    ),
    "truthfulqa_mc2": Task(
        "TruthfulQA-MC2", "acc", "robust", _BOTH, items=817, folder="truthfulqa",
        files={"validation": "truthfulqa/validation.jsonl"},
    ),
    # The small suite that ships with the package, each beside the benchmark that it stands in for.
    "pocket_facts": Task("pocket facts", "acc", "fragile", _POCKET, files={"test": "facts.jsonl"}),
    "pocket_prose": Task(
        "pocket prose perplexity", "word_perplexity", "fragile", _POCKET, higher_is_better=False,
        files={"test": "prose.jsonl"},
    ),
    "pocket_misconceptions_mc1": Task(
        "pocket misconceptions MC1", "acc", "robust", _POCKET, files={"test": "misconceptions.jsonl"}
    ),
    "pocket_misconceptions_mc2": Task(
        "pocket misconceptions MC2", "acc", "robust", _POCKET, files={"test": "misconceptions.jsonl"}
    ),
    "pocket_last_words": Task(
        "pocket last-word perplexity", "perplexity", "fragile", _POCKET, higher_is_better=False,
        files={"test": "last_words.jsonl"},
    ),
    "pocket_arithmetic": Task(
        "pocket arithmetic", "exact_match", "fragile", _POCKET, num_fewshot=3, files={"test": "arithmetic.jsonl"}
    ),
    "pocket_instructions": Task(
        "pocket instructions", "prompt_level_strict_acc", "robust", _POCKET, files={"test": "instructions.jsonl"}
    ),
}  # fmt: skip
# Suite -> task -> examples in the prompt.
SUITES = {
    suite: {name: task.num_fewshot for name, task in TASKS.items() if suite in task.suites}
    for suite in dict.fromkeys(suite for task in TASKS.values() for suite in task.suites)
}
# Every answer of these is checked for what its prompt asks.
CHECKED_TASKS = tuple(name for name, task in TASKS.items() if task.metric == "prompt_level_strict_acc")
# Metric -> its words.
METRICS = {
    "acc": "accuracy",
    "acc_norm": "accuracy, normalized by length",
    "word_perplexity": "perplexity per word",
    "byte_perplexity": "perplexity per byte",
    "bits_per_byte": "bits per byte",
    "perplexity": "perplexity of the last word",
    "exact_match": "exact match",
    "exact_match_strict": "exact match, strict",
    "exact_match_flexible": "exact match, flexible",
    "prompt_level_strict_acc": "prompts followed, strict",
    "prompt_level_loose_acc": "prompts followed, loose",
    "inst_level_strict_acc": "instructions followed, strict",
    "inst_level_loose_acc": "instructions followed, loose",
    "mcnemar_p": "McNemar's p against the unpruned model",
    "empty": "share of empty answers",
    "words": "words an answer",
    "distinct_1": "share of different words",
    "distinct_2": "share of different pairs of words",
    "word_entropy": "entropy of the words, in bits",
    "ece": "calibration error",
    "confidence": "probability of the chosen answer",
    "clustered_stderr": "standard error, items clustered by subtask",
    "change_stderr": "standard error of the change, item by item",
    "flip_rate": "share of items whose outcome changed",
    "shortest_chosen": "share of items whose shortest answer is chosen",
    "answer_entropy": "evenness over the answers, 1: all alike",
    "log10_mass_true": "probability on true answers, log10",
    "log10_mass_false": "probability on false answers, log10",
    "kl_to_unpruned": "distance from the unpruned choice, nats",
}
# IFEval's type of instruction -> what it asks for.
INSTRUCTIONS = {
    "change_case:capital_word_frequency": "words in capitals",
    "change_case:english_capital": "all in capitals",
    "change_case:english_lowercase": "all in lower case",
    "combination:repeat_prompt": "the request repeated",
    "combination:two_responses": "two responses",
    "detectable_content:number_placeholders": "placeholders",
    "detectable_content:postscript": "a postscript",
    "detectable_format:constrained_response": "one of given answers",
    "detectable_format:json_format": "JSON",
    "detectable_format:multiple_sections": "sections",
    "detectable_format:number_bullet_lists": "bullets",
    "detectable_format:number_highlighted_sections": "highlights",
    "detectable_format:title": "a title",
    "keywords:existence": "words to use",
    "keywords:forbidden_words": "words to avoid",
    "keywords:frequency": "a word several times",
    "keywords:letter_frequency": "a letter several times",
    "language:response_language": "a language",
    "length_constraints:nth_paragraph_first_word": "how a paragraph begins",
    "length_constraints:number_paragraphs": "number of paragraphs",
    "length_constraints:number_sentences": "number of sentences",
    "length_constraints:number_words": "number of words",
    "punctuation:no_comma": "no comma",
    "startend:end_checker": "how to end",
    "startend:quotation": "in quotation marks",
}
_WORKLOAD = re.compile(r"(\w+)_(?:latency|throughput)_b(\d+)")


def metric_words(metric: str) -> str:
    """A metric as tables, axes and pages name it; one without words of its own is spelt with spaces.

    >>> metric_words("prompt_level_strict_acc"), metric_words("share_keywords:existence")
    ('prompts followed, strict', 'share followed: words to use')
    """
    if metric.startswith("share_"):
        return f"share followed: {instruction_words(metric.removeprefix('share_'))}"
    return METRICS.get(metric, metric.replace("_", " "))


def instruction_words(kind: str) -> str:
    """What a type of instruction asks for; of one that is no type of IFEval its own name, with spaces.

    >>> instruction_words("punctuation:no_comma"), instruction_words("mine:two_rhymes")
    ('no comma', 'two rhymes')
    """
    return INSTRUCTIONS.get(kind, kind.partition(":")[2].replace("_", " ") or kind)


def workload_words(name: str) -> str:
    """A workload as tables and figures name it; what is no name of one is left as it is.

    >>> workload_words("hellaswag_latency_b1"), workload_words("generated_throughput_b8")
    ('HellaSwag, batch 1', 'generated prompts, batch 8')
    """
    if not (parts := _WORKLOAD.fullmatch(name)):
        return name
    task, batch = parts.groups()
    return f"{TASKS[task].label if task in TASKS else task + ' prompts'}, batch {batch}"


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a results table that hold their task's headline metric, one per model, criterion and ratio.

    Raises
    ------
    WidthPruneError
        If a task is not in `TASKS`, or a headline number is there twice (two limits or two seeds).
    """
    if unknown := sorted(set(table["task"]) - set(TASKS)):
        raise WidthPruneError(f"task must be one of {', '.join(TASKS)}, got {', '.join(unknown)}")
    rows = table[is_headline(table)]
    once = ["model", "criterion", "neuron_seed", "pruning_pct", "task"]
    if (twice := rows.duplicated(once)).any():
        row = rows[twice].iloc[0]
        raise WidthPruneError(
            f"{row['model']} at {row['pruning_pct']:g}% has several results for {row['task']}: "
            "select one limit, seed and dtype first"
        )
    return rows.reset_index(drop=True)


def is_headline(table: pd.DataFrame) -> pd.Series:
    """Of each row whether it holds its task's headline metric."""
    return table["metric"] == table["task"].map({name: task.metric for name, task in TASKS.items()})


def data_dir() -> Path | None:
    """The directory of the benchmarks' files, which ``WIDTHPRUNE_DATA`` names; None: they come from the hub."""
    # A shell leaves a ~ within quotes as it is.
    return Path(os.path.expanduser(named)) if (named := os.environ.get("WIDTHPRUNE_DATA")) else None
