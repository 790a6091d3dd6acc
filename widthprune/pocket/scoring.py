"""Scoring that the pocket tasks' YAML files call."""

import json
import os
import re
from unittest import mock

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


def right_number(doc: dict, results: list) -> dict:
    """Whether the last number of the answer is the right one (GSM8K's flexible match)."""
    numbers = re.findall(r"-?\d+", results[0].replace(",", ""))
    return {"exact_match": float(bool(numbers) and int(numbers[-1]) == doc["answer"])}


def instructed_prompt(doc: dict) -> str:
    """A request followed by its instructions, worded by lm-eval's IFEval classes."""
    registry = _ifeval().instructions_registry.INSTRUCTION_DICT
    wordings = [
        registry[name](name).build_description(**options)
        for name, options in zip(doc["instruction_id_list"], json.loads(doc["kwargs"]), strict=True)
    ]
    return " ".join([doc["topic"], *wordings])


def instructions_followed(doc: dict, results: list) -> dict:
    """IFEval's four scores of one response, by lm-eval's own code."""
    item = {"key": 0, "prompt": instructed_prompt(doc), "instruction_id_list": doc["instruction_id_list"]}
    return _ifeval().process_results(item | {"kwargs": json.loads(doc["kwargs"])}, results)


def share_followed(items: list) -> float:
    """Instructions followed over instructions given, from one list of booleans an item."""
    return _ifeval().agg_inst_level_acc(items)


def _ifeval():
    # Where NLTK's sentence tables are absent, importing lm-eval's module fetches them unless it believes
    # to be a second process. No instruction here needs them.
    with mock.patch.dict(os.environ, {"LOCAL_RANK": "1"}):
        from lm_eval.tasks.ifeval import utils
    return utils
