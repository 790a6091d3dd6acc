"""Scoring that the pocket tasks' YAML files call."""

import re

import numpy as np
from scipy.special import logsumexp


def count_words(doc: dict, results: tuple) -> dict:
    """Perplexity per word: (log-likelihood, words) of one document, words split at white space."""
    (loglikelihood,) = results
    return {"word_perplexity": (loglikelihood, len(re.split(r"\s+", doc["page"].strip())))}


def mc1_choices(doc: dict) -> list[str]:
    """The best answer, which stands first, and the false ones (TruthfulQA's MC1)."""
    return [
        choice
        for i, (choice, label) in enumerate(zip(doc["choices"], doc["labels"], strict=True))
        if i == 0 or label == 0
    ]


def mc2(doc: dict, results: list) -> dict:
    """Probability on the true answers, normalized over all answers of the question (TruthfulQA's MC2).

    Taken from the largest log-likelihood on, so that a damaged model, whose probabilities all
    underflow to zero, still gets its number.
    """
    loglikelihoods = np.array([loglikelihood for loglikelihood, _ in results])
    true = np.array(doc["labels"]) == 1
    return {"acc": float(np.exp(logsumexp(loglikelihoods[true]) - logsumexp(loglikelihoods)))}


def follows_instructions(doc: dict, results: list) -> dict:
    """IFEval's own checks of a response, strict: every instruction of the prompt, and all of them."""
    # Imported here: this module of lm-eval looks for NLTK's tables when it is imported.
    from lm_eval.tasks.ifeval.utils import process_results

    found = process_results(doc, results)
    return {name: found[name] for name in ("prompt_level_strict_acc", "inst_level_strict_acc")}


def mean_of_instructions(items: list[list[bool]]) -> float:
    """Share of instructions followed, over all prompts together."""
    followed = [one for prompt in items for one in prompt]
    return sum(followed) / len(followed)
