"""What each benchmark measures: its headline metric, its direction, and the side the paper puts it on."""

from dataclasses import dataclass

import pandas as pd

from ..errors import WidthPruneError


@dataclass(frozen=True)
class Task:
    """One benchmark as the figures show it."""

    label: str
    metric: str  # the one the paper's text quotes
    side: str  # "fragile" or "robust": where the paper's dichotomy puts it (section 4)
    higher_is_better: bool = True


TASKS = {
    "mmlu": Task("MMLU", "acc", "fragile"),
    "gsm8k": Task("GSM8K", "exact_match_flexible", "fragile"),
    "wikitext": Task("WikiText perplexity", "word_perplexity", "fragile", higher_is_better=False),
    "lambada_openai": Task("LAMBADA perplexity", "perplexity", "fragile", higher_is_better=False),
    "arc_challenge": Task("ARC-Challenge", "acc_norm", "fragile"),
    "hellaswag": Task("HellaSwag", "acc_norm", "fragile"),
    "piqa": Task("PIQA", "acc_norm", "fragile"),
    "winogrande": Task("WinoGrande", "acc", "fragile"),
    "boolq": Task("BoolQ", "acc", "fragile"),
    "ifeval": Task("IFEval", "prompt_level_strict_acc", "robust"),
    "leaderboard_musr": Task("MuSR", "acc_norm", "robust"),
    "truthfulqa_mc1": Task("TruthfulQA-MC1", "acc", "robust"),
    "truthfulqa_mc2": Task("TruthfulQA-MC2", "acc", "robust"),
    # The small suite that ships with the package, each beside the benchmark that it stands in for.
    "pocket_facts": Task("pocket facts", "acc", "fragile"),
    "pocket_prose": Task("pocket prose perplexity", "word_perplexity", "fragile", higher_is_better=False),
    "pocket_misconceptions_mc1": Task("pocket misconceptions MC1", "acc", "robust"),
    "pocket_misconceptions_mc2": Task("pocket misconceptions MC2", "acc", "robust"),
    "pocket_last_words": Task("pocket last-word perplexity", "perplexity", "fragile", higher_is_better=False),
    "pocket_arithmetic": Task("pocket arithmetic", "exact_match", "fragile"),
    "pocket_instructions": Task("pocket instructions", "prompt_level_strict_acc", "robust"),
}


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a results table that hold their task's headline metric, one per model, criterion and ratio.

    Raises
    ------
    WidthPruneError
        If a task is not in `TASKS`, or a headline number is there twice (two limits or two seeds).
    """
    if unknown := sorted(set(table["task"]) - set(TASKS)):
        raise WidthPruneError(f"task must be one of {', '.join(TASKS)}, got {', '.join(unknown)}")
    rows = table[table["metric"] == table["task"].map(lambda task: TASKS[task].metric)]
    once = ["model", "criterion", "neuron_seed", "pruning_pct", "task"]
    if (twice := rows.duplicated(once)).any():
        row = rows[twice].iloc[0]
        raise WidthPruneError(
            f"{row['model']} at {row['pruning_pct']:g}% has several results for {row['task']}: "
            "select one limit, seed and dtype first"
        )
    return rows.reset_index(drop=True)
