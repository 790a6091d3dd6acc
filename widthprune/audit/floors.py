"""Floors: what a responder that knows nothing scores, found by running lm-eval's own scorers.

A responder gives every item of a task an answer; lm-eval's filters, scorers and aggregation do the rest. There
are two floors, by what the responder sees. A *blind* one sees nothing of an item: a die, always the same answer,
a word repeated. A *prompt-reading* one has the prompt and nothing else: an echo. A score above neither is no
evidence that an item was understood; one between them is none of more than the words of the prompt.

*Controls* are no floors: they see what no floor may see, the answers to choose from (the longest, the shortest)
or the kinds of checks that the benchmark makes. They stand beside a score to ask what else would explain it.
"""

import logging
import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import WidthPruneError
from ..evaluation.repeatable import repeatable
from ..evaluation.suites import find_benchmarks
from ..report.atomic import write_atomically
from ..report.provenance import git_commit
from ..report.tasks import TASKS
from .fixed_answers import fitted_answer, ifeval_items, repeated_answer, score_halves

COLUMNS = ["task", "responder", "kind", "metric", "value", "n", "data", "task_version", "lm_eval", "commit"]
KINDS = ("blind", "reading", "control")
# What is not named here is blind.
_KINDS = {
    "prompt echoed": "reading",
    "prompt echoed 8 times": "reading",
    "longest": "control",
    "shortest": "control",
    "one answer fitted to the checks": "control",
}
# Of one task: metric -> responder -> its value, and over how many items.
TaskScores = dict[str, dict[str, tuple[float, int]]]
# How figures and tables name the two floors.
FLOOR_NAMES = {"blind": "blind floor", "reading": "prompt-reading floor"}
# Texts that no prompt has to be read for; the last two need the prompt and nothing else.
NULL_RESPONDERS: dict[str, Callable[[str], str]] = {
    "empty": lambda prompt: "",
    "one word repeated": lambda prompt: " ".join(["word"] * 400),
    "one sentence repeated": lambda prompt: " ".join(["This is one more sentence."] * 80),
    "bullet list": lambda prompt: "\n".join(["* one more point"] * 20),
    "prompt echoed": lambda prompt: prompt,
    "prompt echoed 8 times": lambda prompt: "\n\n".join([prompt] * 8),
}
# One answer for all prompts, chosen on half of them.
CHOSEN_ANSWERS = {
    "one text repeated, chosen": repeated_answer,
    "one answer fitted to the checks": fitted_answer,
}
# The sample of MuSR in the local data is smaller than the benchmark and not in its proportions.
OFFICIAL_LEAVES = {
    "leaderboard_musr_murder_mysteries": 250,
    "leaderboard_musr_object_placements": 256,
    "leaderboard_musr_team_allocation": 250,
}


def compute_floors(tasks: str | Sequence[str]) -> pd.DataFrame:
    """The scores of uninformed responders on every item of every task whose data is there.

    Parameters
    ----------
    tasks : str or sequence of str
        As for `widthprune.evaluation.evaluate.evaluate`.

    Returns
    -------
    DataFrame
        One row a task, responder and metric, with the responder's ``kind`` (one of `KINDS`), the number of items
        and where it comes from. ``attrs["missing"]`` maps each task without data to the reason. Multiple
        choice has "uniform" (expected score of a fair die), "always 1", "always 2" and so on, "longest" and
        "shortest"; perplexities have "uniform words" and "word frequencies", from the text's own words;
        generation has `NULL_RESPONDERS`, "most frequent answer" where a task has one, and `CHOSEN_ANSWERS` where
        instructions are checked, with their scores on the half that chose them and on the other.
    """
    # lm-eval logs a line for every task whose data lies elsewhere.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    # Taken once: a commit made while this runs is not of the code that runs.
    rows, code = [], (metadata.version("lm_eval"), git_commit())
    with tempfile.TemporaryDirectory() as scratch:
        benchmarks = find_benchmarks(tasks, scratch)
        missing = {b.task: b.missing for b in benchmarks if b.missing}
        for benchmark in (b for b in benchmarks if not b.missing):
            try:
                leaves = benchmark.loaded["tasks"]
            except WidthPruneError as error:
                missing[benchmark.task] = str(error)
                continue
            n = sum(len(leaf.eval_docs) for leaf in leaves.values())
            where = (benchmark.data, benchmark.version, *code)
            halves = {"chosen_half": n // 2, "other_half": n - n // 2}  # as many as `halves` makes
            for responder, metric, value in _scores(leaves):
                kind = _KINDS.get(responder, "blind")
                items = next((half for name, half in halves.items() if metric.endswith(name)), n)
                rows.append((benchmark.task, responder, kind, metric, value, items, *where))
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.attrs["missing"] = missing
    return table


def load_floors() -> pd.DataFrame:
    """The floors that ship with the package, of every task, as `widthprune floors` writes them.

    ``commit`` is of the code that scored the texts. The ``n`` of scores on a half of the prompts was later counted on that
    half, where that of the whole had stood, and nothing was scored again.
    """
    return pd.read_csv(Path(__file__).with_name("floors.csv"))


def save_floors(table: pd.DataFrame, path: str | Path) -> None:
    """Write floors as CSV, whole or not at all."""
    write_atomically(path, table.to_csv(index=False, float_format="%.6g"))


def headline_floors(floors: pd.DataFrame, kind: str = "blind") -> pd.Series:
    """One floor a task, of its headline metric: the best responder of a kind, "blind" or "reading".

    A text that was chosen on half of the prompts counts by its score on the other half.

    Blind, in multiple choice, is a fair die, or the best constant answer where that beats the die by more
    than three standard errors (BoolQ's answers are mostly yes); in generation the best text; for a
    perplexity the better of the text's own word statistics. Constant answers do not count where
    the right answer always stands first, as in TruthfulQA: a model does not see that order. Tasks without
    a responder of the kind are left out.

    Raises
    ------
    WidthPruneError
        If ``kind`` is neither: a control is no floor.
    """
    found = floors_and_errors(floors, kind)
    return pd.Series({task: value for task, (value, _) in found.items()}, dtype=float)


def floors_and_errors(
    floors: pd.DataFrame, kind: str = "blind", *, held_out: bool = True
) -> dict[str, tuple[float, float]]:
    """Each of `headline_floors` with its standard error, which is 0 but for a text that is scored on half of the prompts.

    Where not ``held_out``, such a text counts by its score on all prompts.

    Returns
    -------
    dict of str to (float, float)
        Task -> value and error, in the metric's own units.

    Raises
    ------
    WidthPruneError
        If ``kind`` is neither "blind" nor "reading".
    """
    if kind not in FLOOR_NAMES:
        raise WidthPruneError(f"kind must be one of {', '.join(FLOOR_NAMES)}, got {kind!r}")
    of_kind = floors.loc[floors["kind"] == kind, ["task", "metric", "responder", "value", "n"]]
    scores: dict[str, TaskScores] = {}
    for task, metric, responder, value, n in of_kind.itertuples(index=False, name=None):
        scores.setdefault(task, {}).setdefault(metric, {})[responder] = value, n
    return {task: _floor(task, scores[task], held_out) for task in sorted(scores)}


def floor_lines(floors: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Both floors of every task as figures draw them: task -> name of the floor -> value."""
    values = {name: headline_floors(floors, kind) for kind, name in FLOOR_NAMES.items()}
    return {
        task: {name: of_kind[task] for name, of_kind in values.items() if task in of_kind}
        for task in sorted(set(floors["task"]))
    }


def _floor(task: str, scores: TaskScores, held_out: bool) -> tuple[float, float]:
    """The best responder's score and its standard error."""
    whole = scores[TASKS[task].metric]
    if not TASKS[task].higher_is_better:
        return min(value for value, _ in whole.values()), 0.0
    if "uniform" not in whole:
        other = scores.get(f"{TASKS[task].metric}_other_half", {}) if held_out else {}
        counted = {responder: other.get(responder, score) for responder, score in whole.items()}
        best, (score, n) = max(counted.items(), key=lambda one: one[1][0])
        return score, math.sqrt(score * (1 - score) / n) if best in other else 0.0
    die, n = whole["uniform"]
    constant = max((value for name, (value, _) in whole.items() if name.startswith("always ")), default=die)
    beats = constant - die > 3 * math.sqrt(die * (1 - die) / n)
    return (constant if beats and constant < 1 else die), 0.0


def _scores(leaves: dict) -> Iterable[tuple[str, str, float]]:
    """(responder, metric, value) of a task, over all its leaves, each weighted by its items."""
    total, weights = Counter(), Counter()
    for name, leaf in leaves.items():
        weight = OFFICIAL_LEAVES.get(name, len(leaf.eval_docs))
        for responder, answers in _responders(leaf).items():
            with repeatable():
                found = _aggregate(leaf, answers)
                if responder in CHOSEN_ANSWERS:
                    found |= score_halves(ifeval_items(leaf.eval_docs), answers[0][0])
            for metric, value in found.items():
                total[responder, metric] += weight * value
                weights[responder, metric] += weight
    # A responder that only some leaves have (a fifth choice) is none of the whole task.
    whole = max(weights.values())
    return [(*key, total[key] / weights[key]) for key in total if weights[key] == whole]


def _responders(leaf) -> dict[str, list[list]]:
    """What each responder answers: name -> for every item, a list of equally likely raw answers."""
    docs = list(leaf.eval_docs)
    kind = leaf.OUTPUT_TYPE
    if kind == "multiple_choice":
        return _choices([leaf.doc_to_choice(doc) for doc in docs])
    if kind == "generate_until":
        prompts = [leaf.doc_to_text(doc) for doc in docs]
        answers = {name: [[say(p)] for p in prompts] for name, say in NULL_RESPONDERS.items()}
        numbers = [re.search(r"(-?[\d,.]*\d)\D*$", str(leaf.doc_to_target(doc))) for doc in docs]
        if all(numbers) and len(set(found[1] for found in numbers)) > 1:
            common = Counter(found[1] for found in numbers).most_common(1)[0][0]
            answers["most frequent answer"] = [[f"#### {common}"]] * len(docs)
        return answers | (_chosen(docs) if "instruction_id_list" in docs[0] else {})
    # LAMBADA scores the last word of a text, a rolling perplexity all of them.
    texts = [leaf.doc_to_target(doc) for doc in docs]
    read = texts if kind == "loglikelihood_rolling" else [leaf.doc_to_text(doc) for doc in docs] + texts
    counts = Counter(word for text in read for word in text.split())
    commonest = counts.most_common(1)[0][0]
    log = {word: np.log(count / counts.total()) for word, count in counts.items()}

    def answer(text, logp):
        likelihood = sum(logp(word) for word in text.split())
        return likelihood if kind == "loglikelihood_rolling" else (likelihood, text.split() == [commonest])

    return {
        "uniform words": [[answer(text, lambda word: -np.log(len(counts)))] for text in texts],
        "word frequencies": [[answer(text, log.__getitem__)] for text in texts],
    }


def _chosen(docs: list[dict]) -> dict[str, list[list[str]]]:
    """`CHOSEN_ANSWERS` for every prompt of a task whose instructions are checked."""
    items, answers = ifeval_items(docs), {}
    for name, choose in CHOSEN_ANSWERS.items():
        with repeatable():
            answers[name] = [[choose(items)]] * len(docs)
    return answers


def _choices(choices: list[list[str]]) -> dict[str, list[list]]:
    def pick(options, k):
        return [(0.0 if i == k else -1e4, i == k) for i in range(len(options))]

    lengths = [[len(option) for option in options] for options in choices]
    answers = {
        "uniform": [[pick(options, k) for k in range(len(options))] for options in choices],
        "longest": [[pick(o, int(np.argmax(size)))] for o, size in zip(choices, lengths, strict=True)],
        "shortest": [[pick(o, int(np.argmin(size)))] for o, size in zip(choices, lengths, strict=True)],
    }
    for k in range(min(len(options) for options in choices)):
        answers[f"always {k + 1}"] = [[pick(options, k)] for options in choices]
    return answers


def _aggregate(leaf, answers: list[list]) -> dict[str, float]:
    """lm-eval's metrics of one leaf for the raw answers of every item."""
    docs = list(leaf.eval_docs)
    if leaf.OUTPUT_TYPE == "generate_until":
        return score_texts(leaf, [answer for (answer,) in answers])
    scored = []
    for doc, options in zip(docs, answers, strict=True):
        results = [
            leaf.process_results(doc, a if leaf.OUTPUT_TYPE == "multiple_choice" else [a]) for a in options
        ]
        # Only a fair die has several equally likely answers, and its metrics are numbers.
        averaged = len(options) > 1
        scored.append(
            {m: np.mean([r[m] for r in results]) if averaged else results[0][m] for m in results[0]}
        )
    return {m: float(leaf.aggregation()[m]([s[m] for s in scored])) for m in scored[0]}


def score_texts(leaf, texts: Sequence[str]) -> dict[str, float]:
    """lm-eval's metrics of a generation task for one text an item, through the task's own filters."""
    from lm_eval.api.instance import Instance

    docs = list(leaf.eval_docs)
    instances = [
        Instance("generate_until", doc, ("", {}), 0, resps=[text])
        for doc, text in zip(docs, texts, strict=True)
    ]
    found = {}
    for pipeline in leaf._filters:
        pipeline.apply(instances)
        scored = [leaf.process_results(i.doc, [i.filtered_resps[pipeline.name]]) for i in instances]
        suffix = "" if pipeline.name == "none" else f"_{pipeline.name.split('-')[0]}"
        for metric in scored[0]:
            found[metric + suffix] = float(leaf.aggregation()[metric]([s[metric] for s in scored]))
    return found
