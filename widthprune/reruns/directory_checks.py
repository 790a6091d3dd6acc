"""What is wrong between the files of a results directory, each of which is right by itself."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..models.files import twins
from ..report.escaping import as_line
from ..report.results import SAME_KIND


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one file."""

    path: Path
    what: str

    def __str__(self):
        return f"{as_line(self.path)}: {self.what}"


def wrong_together(runs: Mapping[Path, Mapping]) -> Iterator[Problem]:
    """What is wrong with the runs of a directory beside each other: duplicates, folders, missing baselines."""
    yield from _duplicates(runs)
    yield from _twin_folders(runs)
    yield from _without_baseline(runs)


def _twin_folders(runs: Mapping[Path, Mapping]) -> Iterator[Problem]:
    roots = {}
    for path in runs:
        roots.setdefault(path.parent.parent, set()).add(path.parent.name)
    yield from (Problem(root, f"holds {pair}") for root, names in roots.items() if (pair := twins(names)))


def _duplicates(runs: Mapping[Path, Mapping]) -> Iterator[Problem]:
    seen = {}
    for path, run in runs.items():
        # Not the file's key: 20 and 20.0 are one percentage, and two texts.
        key = frozenset(run["settings"].items())
        if key in seen:
            yield Problem(path, f"has the same settings as {as_line(seen[key])}")
        seen.setdefault(key, path)


def _without_baseline(runs: Mapping[Path, Mapping]) -> Iterator[Problem]:
    def sweep(settings):
        names = ("model", "task", *SAME_KIND)
        names += ("protocol", "weights", "max_new_tokens", "threads", "device")  # of profiles
        return tuple(settings.get(name) for name in names)

    whole = {sweep(run["settings"]): run for run in runs.values() if run["settings"]["pruning_pct"] == 0}
    for path, run in runs.items():
        if (unpruned := whole.get(sweep(run["settings"]))) is None:
            yield Problem(path, "its unpruned model has no result with the same task, limit, seed and data")
        else:
            yield from (Problem(path, what) for what in _wrong_sizes(run["settings"], unpruned["settings"]))


def _wrong_sizes(it: Mapping, unpruned: Mapping) -> Iterator[str]:
    """What is wrong with a size, its ratio and its percentage, which the unpruned model's tie together."""
    share = it["intermediate_size"] / unpruned["intermediate_size"]
    rounding = it.get("multiple_of", 1) / unpruned["intermediate_size"] + 1e-4
    if abs(1 - it["pruning_pct"] / 100 - share) > rounding:
        yield (
            f"settings.intermediate_size is {it['intermediate_size']} at {it['pruning_pct']:g}%, and the unpruned "
            f"model's is {unpruned['intermediate_size']}"
        )
    if abs(it["expansion_ratio"] / unpruned["expansion_ratio"] - share) > 1e-3:
        yield (
            f"settings.expansion_ratio is {it['expansion_ratio']:g} at {it['intermediate_size']} neurons, and the "
            f"unpruned model's is {unpruned['expansion_ratio']:g} at {unpruned['intermediate_size']}"
        )
