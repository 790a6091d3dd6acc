"""Why scores move: what the answers of a run look like, from the records of `widthprune.evaluation.samples`.

Each function takes the records of one run and gives numbers; `diagnose` writes them as results files of
the same settings, so that the book can draw them without the answers themselves.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_number
from scipy.special import log_softmax, logsumexp
from scipy.stats import entropy
from statsmodels.stats.contingency_tables import mcnemar

from ..errors import WidthPruneError, in_one_line
from ..evaluation.samples import AGAIN, SUFFIX, load_samples
from ..evaluation.stored import command_line, find_stored, refuse
from ..report.provenance import record
from ..report.results import SAME_KIND, load_results, tidy
from ..report.runs import find_run, read_run, result_files, write_run
from ..report.schema import METRIC_FIELDS
from ..report.tasks import TASKS

# Each run's diagnostics have one of these: generations, questions with several true answers, multiple choice.
DESCRIBES = ("words", "answer_entropy", "confidence")
VERSION = 1  # of these definitions; a changed one gets a new number and new files, an added one does not


def text_diagnostics(texts: Iterable[str]) -> dict[str, float]:
    """Length and variety of generations, means over texts; words are split at white space.

    Returns
    -------
    dict
        ``words``; ``distinct_1`` and ``distinct_2``, different words (pairs of words) over all of them;
        ``word_entropy``, bits of the text's own word frequencies; ``empty``, share of texts without a word.
        Texts too short to have a pair count for nothing in ``distinct_2``.
    """
    words = [text.split() for text in texts]
    full = [text for text in words if text]
    pairs = [list(zip(text, text[1:], strict=False)) for text in full if len(text) > 1]
    return {
        "words": _mean([len(text) for text in words]),
        "distinct_1": _mean([len(set(text)) / len(text) for text in full]),
        "distinct_2": _mean([len(set(text)) / len(text) for text in pairs]),
        "word_entropy": _mean([entropy(list(Counter(text).values()), base=2) for text in full]),
        "empty": _mean([not text for text in words]),
    }


def instruction_shares(instructions: Iterable[Sequence[str]], followed: Iterable[Sequence[bool]]) -> dict:
    """Share of IFEval instructions followed, by type: ``share_<type>``, over all prompts that have it."""
    rows = [
        (name, bool(held))
        for names, results in zip(instructions, followed, strict=True)
        for name, held in zip(names, results, strict=True)
    ]
    shares = pd.DataFrame(rows, columns=["type", "held"]).groupby("type")["held"].mean()
    return {f"share_{name}": float(value) for name, value in shares.items()}


def answer_masses(loglikelihoods: Iterable[Sequence[float]], labels: Iterable[Sequence[int]]) -> dict:
    """What is behind an MC2 score, before normalization: means over questions.

    Returns
    -------
    dict
        ``log10_mass_true`` and ``log10_mass_false``, decimal logarithms of the probability on all true
        (false) answers together; ``answer_entropy``, of the normalized answers over that of the uniform
        distribution: 1 where a model does not distinguish them.
    """
    true, false, flat = [], [], []
    for row, label in zip(loglikelihoods, labels, strict=True):
        row, label = np.asarray(row, float), np.asarray(label)
        true.append(logsumexp(row[label == 1]) / np.log(10))
        false.append(logsumexp(row[label == 0]) / np.log(10))
        flat.append(entropy(np.exp(log_softmax(row))) / np.log(len(row)))
    return {
        "log10_mass_true": _mean(true),
        "log10_mass_false": _mean(false),
        "answer_entropy": _mean(flat),
    }


def shortest_chosen(loglikelihoods: Iterable[Sequence[float]], shortest: Iterable[int]) -> float:
    """Share of items on which the most probable answer is the shortest: log-likelihoods are not normalized by length."""
    return _mean([int(np.argmax(row)) == at for row, at in zip(loglikelihoods, shortest, strict=True)])


def calibration(loglikelihoods: Iterable[Sequence[float]], right: Iterable[int]) -> dict:
    """Expected calibration error of a multiple-choice task: ``ece``, and the mean ``confidence``.

    Confidence is the largest normalized probability of an item's answers; items are put into ten bins
    of equal width, and the error is the mean gap between accuracy and confidence, weighted by items
    (Guo et al., arXiv 1706.04599).
    """
    normalized = [np.exp(log_softmax(np.asarray(row, float))) for row in loglikelihoods]
    confidence = np.array([row.max() for row in normalized])
    hit = np.array([row.argmax() == target for row, target in zip(normalized, right, strict=True)])
    bin_of = np.minimum((confidence * 10).astype(int), 9)
    gaps = [abs((hit - confidence)[bin_of == b].sum()) for b in range(10)]
    return {"ece": float(sum(gaps) / len(hit)), "confidence": float(confidence.mean())}


def divergence(loglikelihoods: Iterable[Sequence[float]], unpruned: Iterable[Sequence[float]]) -> dict:
    """``kl_to_unpruned``: KL(unpruned, pruned) of the normalized answers, in nats, mean over items."""
    kl = []
    for row, reference in zip(loglikelihoods, unpruned, strict=True):
        p, q = log_softmax(np.asarray(reference, float)), log_softmax(np.asarray(row, float))
        kl.append(float(np.sum(np.exp(p) * (p - q))))
    return {"kl_to_unpruned": _mean(kl)}


def paired(right: Sequence[bool], unpruned: Sequence[bool]) -> dict:
    """The same items before and after: ``flip_rate``, items whose outcome changed, and exact ``mcnemar_p``."""
    right, unpruned = np.asarray(right, bool), np.asarray(unpruned, bool)
    gained, lost = int((right & ~unpruned).sum()), int((~right & unpruned).sum())
    kept = len(right) - gained - lost
    return {
        "flip_rate": (gained + lost) / len(right),
        "mcnemar_p": float(mcnemar([[kept, lost], [gained, 0]], exact=True).pvalue),
    }


def clustered_stderr(values: Sequence[float], clusters: Sequence) -> float:
    """Standard error of a mean whose items come in clusters, such as MMLU's subjects (statsmodels)."""
    import statsmodels.api as sm

    fit = sm.OLS(np.asarray(values, float), np.ones(len(values)))
    groups = pd.factorize(pd.Series(clusters))[0]
    return float(fit.fit(cov_type="cluster", cov_kwds={"groups": groups}).bse[0])


def run_diagnostics(items: pd.DataFrame, unpruned: pd.DataFrame | None = None) -> dict[str, float]:
    """All that applies to the records of one run; ``unpruned`` holds the same items of the whole model."""
    metric, found = TASKS[items["task"].iloc[0]].metric, {}
    if _has(items, "generated"):
        found |= text_diagnostics(items["generated"])
    if _has(items, "instructions"):
        found |= instruction_shares(items["instructions"], items["inst_level_strict_acc"])
    scored = _has(items, "loglikelihoods") and items["loglikelihoods"].str.len().min() > 1
    if scored and _has(items, "labels"):
        found |= answer_masses(items["loglikelihoods"], items["labels"])
    elif scored and _has(items, "target"):
        found |= calibration(items["loglikelihoods"], items["target"])
    if scored and "shortest" in items and items["shortest"].notna().any():
        alone = items.dropna(subset=["shortest"])  # of several that are the shortest, none is
        found["shortest_chosen"] = shortest_chosen(alone["loglikelihoods"], alone["shortest"])
    # A perplexity's are pairs, which become a number over all items together.
    valued = metric in items and bool(items[metric].map(is_number).all())
    if items["leaf"].nunique() > 1 and valued:
        found["clustered_stderr"] = clustered_stderr(items[metric], items["leaf"])
    if unpruned is not None:
        both = items.merge(unpruned, on=["leaf", "doc_id", "filter"], suffixes=("", "_0"))
        if scored:
            found |= divergence(both["loglikelihoods"], both["loglikelihoods_0"])
        # A paired test is of items that are right or wrong, which MC2's are not: of those, the error of the change.
        if valued and both[metric].isin([0, 1]).all() and both[f"{metric}_0"].isin([0, 1]).all():
            found |= paired(both[metric], both[f"{metric}_0"])
        elif valued and len(both) > 1:
            found["change_stderr"] = float((both[metric] - both[f"{metric}_0"]).sem())
    return {name: value for name, value in found.items() if np.isfinite(value)}


def diagnose(results_dir: str | Path = "results") -> list[Path]:
    """Compute the diagnostics of every run that has records, and write what is new as results files.

    Returns
    -------
    list of Path
        The files written: a run's settings with ``diagnostics`` (the version of the definitions).
    """
    written = []
    for path in result_files(results_dir, SUFFIX):
        settings = read_run(path.with_name(path.name.removesuffix(SUFFIX) + ".json"))["settings"]
        own = settings | {"diagnostics": VERSION}
        if find_run(results_dir, own):
            continue
        same = {name: settings.get(name) for name in ("model", "task", *SAME_KIND)}
        pruned = {name: settings.get(name) for name in ("criterion", "pruning_pct", "neuron_seed")}
        with record() as provenance, in_one_line(f"{path} is damaged", AGAIN):
            items = load_samples(path.parent, **same, **pruned)
            unpruned = load_samples(path.parent, **same, criterion="none") if pruned["pruning_pct"] else None
            metrics = run_diagnostics(items, unpruned if unpruned is not None and len(unpruned) else None)
        if metrics:
            n = items["doc_id"].groupby(items["leaf"]).nunique().sum()
            rows = [dict(zip(METRIC_FIELDS, (m, v, None, int(n)), strict=True)) for m, v in metrics.items()]
            try:
                written.append(write_run(results_dir, own, rows, provenance))
            except WidthPruneError as error:
                raise WidthPruneError(f"{path} is damaged ({error}): {AGAIN}") from error
    return written


def described(
    model: str, tasks: Sequence[str], *, measure: bool, results_dir: str = "results", **asked
) -> pd.DataFrame:
    """Scores and diagnostics of a grid's runs, as stored, or made where they may be: answers kept and described.

    Parameters
    ----------
    model, tasks, measure, results_dir, asked
        As for `widthprune.evaluation.stored.stored_or_measured`.

    Raises
    ------
    WidthPruneError
        If the diagnostics of a run are missing and may not be made.
    """
    asked |= {"results_dir": results_dir}
    if measure:
        from ..evaluation.evaluate import evaluate

        measured = evaluate(model, tasks, save_samples=True, **asked)
        diagnose(results_dir)
        # Of these runs and of no others that bear the model's name.
        run = ["model", "task", *SAME_KIND, "criterion", "neuron_seed", "pruning_pct"]
        return tidy(load_results(results_dir).merge(measured[run].drop_duplicates(), on=run))
    found, missing = find_stored(model, tasks, having=DESCRIBES, **asked)
    if missing:
        then = shlex.join(["widthprune", "diagnose", "--results-dir", str(results_dir)])
        command = f"{command_line(model, tasks, **asked)} --save-samples, then {then}"
        refuse([f"answers of {one}" for one in missing], model, results_dir, command)
    return found


def _has(items: pd.DataFrame, column: str) -> bool:
    return column in items and items[column].notna().all()


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
