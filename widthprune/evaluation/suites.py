"""Benchmark suites: which lm-eval tasks, with how many examples in the prompt, on which data.

Every task is lm-eval's own or ships with this package in lm-eval's format; here only the place of
its data is overridden, never its prompt, its metrics or its processing.
"""

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import yaml

from ..commands.options import nearest
from ..errors import WidthPruneError, first_line
from ..report.tasks import SUITES, TASKS, data_dir

POCKET = Path(__file__).parents[1] / "pocket"


@dataclass(frozen=True)
class Benchmark:
    """One task, ready for lm-eval, or the reason why it is not."""

    task: str
    num_fewshot: int
    version: str = ""  # lm-eval's version of the task
    data: str = "hub"  # "hub", or the hash of the local files
    manager: object = None  # the lm_eval.tasks.TaskManager that knows it
    missing: str = ""

    @cached_property
    def loaded(self) -> dict:
        """lm-eval's own objects, with the data read: ``tasks`` by name, and ``groups``.

        Raises
        ------
        WidthPruneError
            If the data has to come from the hub and does not, or the local files are damaged.
        """
        # datasets draws a bar for every file; the sweep's own is enough.
        with contextlib.redirect_stderr(io.StringIO()):
            try:
                return self.manager.load([self.task])
            except Exception as error:
                reason = first_line(error)
                if self.data != "hub":
                    raise WidthPruneError(
                        f"its data cannot be read ({reason:.200}): copy its files under WIDTHPRUNE_DATA again"
                    ) from error
                raise WidthPruneError(
                    f"its data cannot be had from the hub ({reason}): check the network, or set WIDTHPRUNE_DATA"
                ) from error


def resolve(tasks: str | Sequence[str]) -> dict[str, int]:
    """Task names with their number of examples, from suites and tasks, one or several; each once.

    >>> resolve(["mmlu", "wikitext"])
    {'mmlu': 5, 'wikitext': 0}
    """
    named = [tasks] if isinstance(tasks, str) else tasks
    found = dict.fromkeys(task for name in named for task in SUITES.get(name, [name]))
    if unknown := [task for task in found if task not in TASKS]:
        raise WidthPruneError(
            f"tasks must be suites ({', '.join(SUITES)}) or of {', '.join(TASKS)}, got {', '.join(unknown)}"
        )
    return {task: TASKS[task].num_fewshot for task in found}


def find_benchmarks(tasks: str | Sequence[str], scratch: str | Path) -> list[Benchmark]:
    """Every task of a suite with the data it will run on.

    Pocket tasks read the package's own files. The others read JSON Lines under ``WIDTHPRUNE_DATA``
    when that is set, else the hub. ``scratch`` is a directory for the small task files that redirect
    lm-eval; it must live as long as the benchmarks do.
    """
    names = resolve(tasks)
    try:
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise WidthPruneError("evaluating needs lm-eval: pip install 'widthprune[evaluation]'") from None
    import lm_eval.tasks

    official = Path(lm_eval.tasks.__file__).parent
    folders = {official / TASKS[name].folder for name in names if TASKS[name].folder}
    index = TaskManager(include_path=[*sorted(folders), POCKET], include_defaults=False)
    given = data_dir()
    if given:
        # IFEval splits sentences with NLTK, which looks here for its tables.
        os.environ.setdefault("NLTK_DATA", str(given / "nltk_data"))

    staged, found, options = Path(scratch), [], _cache_options(scratch)
    for name, num_fewshot in names.items():
        leaves = _leaves(index, name)
        # MuSR's group has no version of its own.
        version = str((_config(index, name).get("metadata") or {}).get("version", ""))
        root = given if TASKS[name].folder else POCKET / "data"
        if root is None:
            found.append(Benchmark(name, num_fewshot, version))
            continue
        files = {
            leaf: {split: root / path for split, path in _files(index, name, leaf).items()} for leaf in leaves
        }
        every = sorted({path for splits in files.values() for path in splits.values()})
        if absent := [path for path in every if not path.is_file()]:
            missing = f"no file {absent[0].relative_to(root)} under {'WIDTHPRUNE_DATA' if given else root}"
            found.append(Benchmark(name, num_fewshot, version, missing=missing))
            continue
        for leaf in leaves:
            _stage(staged / f"{leaf}.yaml", index, leaf, files[leaf], options)
        found.append(Benchmark(name, num_fewshot, version, data=_hash(every)))
    manager = TaskManager(include_path=[*sorted(folders), POCKET, staged], include_defaults=False)
    found = [replace(b, missing=b.missing or _sentence_tables_missing(b.task)) for b in found]
    return [b if b.missing else replace(b, manager=manager) for b in found]


def _sentence_tables_missing(task: str) -> str:
    """Why IFEval cannot count sentences; "" if it can, or for any other task."""
    if task != "ifeval":
        return ""
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        if data_dir():
            return "no nltk_data/tokenizers/punkt_tab under WIDTHPRUNE_DATA"
        if not nltk.download("punkt_tab", quiet=True):
            return "NLTK's punkt_tab cannot be fetched: check the network, or set NLTK_DATA to a directory that has it"
    return ""


def _config(index, name: str) -> dict:
    return index.task_index[name].cfg


def _leaves(index, name: str) -> list[str]:
    """The tasks of a group, all the way down; a task is its own only leaf."""
    members = _config(index, name).get("task")
    if not isinstance(members, list):
        return [name]
    # MMLU's subgroups name a tag rather than tasks.
    leaves = []
    for member in members:
        tagged = [task for task, entry in index.task_index.items() if member in entry.tags]
        leaves += sorted(tagged) or _leaves(index, member)
    return leaves


def _files(index, name: str, leaf: str) -> dict[str, str]:
    """Of a task's files, those whose splits the leaf names."""
    config = _config(index, leaf)
    kinds = ("training_split", "validation_split", "test_split", "fewshot_split")
    named = {config.get(kind) for kind in kinds}
    files = {split: path for split, path in TASKS[name].files.items() if split in named}
    return {split: path.format(dataset=config.get("dataset_name")) for split, path in files.items()}


def _cache_options(scratch: str | Path) -> dict:
    """Options of `datasets` by which files are read into ``scratch`` where the user's own cache cannot be written."""
    import datasets

    try:
        tempfile.TemporaryFile(dir=nearest(Path(datasets.config.HF_DATASETS_CACHE))).close()
    except OSError:
        return {"cache_dir": str(scratch)}
    return {}


def _stage(path: Path, index, leaf: str, files: dict[str, Path], options: dict) -> None:
    """Write a task file that includes the official one and overrides only where the data lies."""
    override = {
        "include": str(index.task_index[leaf].yaml_path),
        "task": leaf,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(file) for split, file in files.items()}, **options},
    }
    # A split that the official file names and the local data lacks would be looked for and not found.
    config = _config(index, leaf)
    for split in ("training_split", "validation_split", "test_split"):
        if config.get(split) not in files:
            override[split] = None
    path.write_text(yaml.safe_dump(override), encoding="utf-8")


def _hash(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return f"sha256:{digest.hexdigest()[:16]}"
