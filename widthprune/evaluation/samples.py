"""Per-item records: what a model answered to every item of a run, beside the run's results file.

They make paired tests and looks at single answers possible. They are kept out of git: a rerun makes
them again, and what the book needs of them is computed into results files.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from ..errors import WidthPruneError
from ..report.atomic import write_atomically
from ..report.runs import public_name, read_run, result_files, run_path
from ..report.schema import SETTINGS

SUFFIX = ".samples.json.gz"
AGAIN = "delete it and run that experiment again"  # what to do about damaged records


def samples_path(root: str | Path, settings: Mapping) -> Path:
    """Where the records of a run with these settings lie."""
    path = run_path(root, settings)
    return path.with_name(path.stem + SUFFIX)


def write_samples(root: str | Path, settings: Mapping, records: Iterable[Mapping]) -> Path:
    """Write the records of one run, whole or not at all, and return their path."""
    path = samples_path(root, settings)
    text = json.dumps(list(records), default=_plain)
    # Without a time of writing, the same records are the same bytes.
    write_atomically(path, gzip.compress(text.encode(), mtime=0))
    return path


def load_samples(root: str | Path = "results", **chosen) -> pd.DataFrame:
    """The records of all runs under a results directory that have some, one row an item.

    Parameters
    ----------
    root : str or Path
        A results directory.
    **chosen
        Settings that a run must have to be read, such as ``task="ifeval"``.

    Returns
    -------
    DataFrame
        The run's settings, then ``leaf`` (lm-eval's task), ``doc_id``, ``filter``, one column a metric,
        and where the task has them: ``loglikelihoods`` and ``greedy`` (one entry an answer), ``shortest``
        (position of the answer of fewest characters, the first of several),
        ``generated``, ``target`` (position of the right answer), ``labels`` (1 for a true answer),
        ``instructions`` (IFEval). No rows if there are no records.

    Raises
    ------
    WidthPruneError
        If records are damaged, or lie there without their run.
    """
    tables = []
    if "model" in chosen:
        chosen["model"] = public_name(chosen["model"])
    for path in result_files(root, SUFFIX):
        run = path.with_name(path.name.removesuffix(SUFFIX) + ".json")
        if not run.exists():
            raise WidthPruneError(f"{path} has no {run.name} beside it: delete it or restore the run")
        settings = read_run(run)["settings"]
        if any(settings.get(name) != value for name, value in chosen.items()):
            continue
        named = {name: settings.get(name) for name in (*SETTINGS, "neuron_seed")}
        tables.append(pd.DataFrame(read_records(path)).assign(**named))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def read_records(path: Path) -> list[dict]:
    """The records of one run's file.

    Raises
    ------
    WidthPruneError
        If they are damaged.
    """
    try:
        found = json.loads(gzip.decompress(path.read_bytes()))
        if not (isinstance(found, list) and all(map(_is_record, found))):
            raise ValueError("no list of records")
    except (OSError, EOFError, ValueError, RecursionError, zlib.error):
        raise WidthPruneError(f"{path} is damaged: {AGAIN}") from None
    return found


def _is_record(found) -> bool:
    kinds = {"leaf": str, "doc_id": int, "filter": str}
    return isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in kinds.items())


def records(samples: Mapping[str, Iterable[Mapping]]) -> list[dict]:
    """The records of one run from the samples that lm-eval logs: numbers and answers, no questions."""
    return [_record(leaf, sample) for leaf, logged in samples.items() for sample in logged]


def _record(leaf: str, sample: Mapping) -> dict:
    record = {"leaf": leaf, "doc_id": sample["doc_id"], "filter": sample["filter"]}
    record |= {metric: sample[metric] for metric in sample["metrics"]}
    answers = sample["filtered_resps"]
    # lm-eval gives a log-likelihood as a pair with its greedy flag, a generation as its text.
    if all(isinstance(answer, list | tuple) and len(answer) == 2 for answer in answers):
        record["loglikelihoods"] = [answer[0] for answer in answers]
        record["greedy"] = [bool(answer[1]) for answer in answers]
    elif isinstance(sample["resps"][0][0], str):
        record["generated"] = sample["resps"][0][0]
    else:
        record["loglikelihoods"] = list(answers)
    # A text that is read whole has no answer.
    lengths = [len(request[1]) for request in sample.get("arguments", ()) if len(request) > 1]
    # Where several are the shortest, as all of MMLU's letters are, choosing one says nothing of length.
    if "loglikelihoods" in record and len(lengths) == len(answers) > 1 and lengths.count(min(lengths)) == 1:
        record["shortest"] = lengths.index(min(lengths))
    if isinstance(sample["target"], int) and not isinstance(sample["target"], bool):
        record["target"] = sample["target"]
    document = sample["doc"]
    labels = document.get("labels") or (document.get("mc2_targets") or {}).get("labels")
    if labels and len(labels) == len(answers):
        record["labels"] = labels
    if "instruction_id_list" in document:
        record["instructions"] = document["instruction_id_list"]
    return record


def _plain(value):
    """NumPy's numbers and arrays, as JSON knows them."""
    return value.tolist()
