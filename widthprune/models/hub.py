"""Hub ids and the hub's cache: what a repository holds, and what is damaged in the cache. No torch."""

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from ..errors import WidthPruneError, pickle_remedy

COMMIT = re.compile("[0-9a-f]{40}")


def parted(name: str) -> tuple[str, str | None]:
    """The repository of a hub id, and the branch, tag or commit behind its @, None if it names none.

    Raises
    ------
    WidthPruneError
        If what stands there would lead out of the folder in which the cache keeps branches.
    """
    repository, _, revision = name.partition("@")
    if revision and (".." in revision or Path(revision).parts != tuple(revision.split("/"))):
        raise WidthPruneError(f"{revision!r:.80} is no branch, tag or commit: check what follows the @")
    return repository, revision or None


def hub_files(name: str) -> list[str]:
    """The files of a hub id, or those in the cache where the hub cannot be reached; none if neither has it."""
    repository, revision = parted(name)
    try:
        return HfApi().list_repo_files(repository, revision=revision)
    except Exception:
        try:
            folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
        except Exception:
            return []
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def check_weights(name: str, wanted: Iterable[str]) -> None:
    """Refuse a hub id of which neither the hub nor its cache has the weights.

    Raises
    ------
    WidthPruneError
        If a file is absent, or the weights are pickled.
    """
    there = hub_files(name)
    absent = sorted({*wanted} - {*there})
    if absent and any(file.endswith(".bin") for file in there):
        raise WidthPruneError(pickle_remedy(name))
    if absent:
        raise WidthPruneError(
            f"{name} has no {absent[0]}, its weights, on the hub or in its cache: {download(name)}, or name another"
        )


def cached_commits(name: str) -> list[str]:
    """The commits of a hub id that lie in the cache: those that begin as what stands behind its @, if any do."""
    folder = _cache(name) / "snapshots"
    commits = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [commit for commit in commits if commit.startswith(parted(name)[1] or "")] or commits


def damaged_reference(name: str) -> str:
    """One line, if the cache's own note of which commit a branch or tag is holds no commit; "" if all is well.

    The hub's client takes whatever stands there for a folder's name, an absolute path included.
    """
    file = _cache(name) / "refs" / (parted(name)[1] or constants.DEFAULT_REVISION)
    try:
        if not file.exists() or COMMIT.fullmatch(file.read_text(encoding="ascii")):
            return ""
    except (OSError, ValueError):
        pass
    return f"the hub's cache is damaged, {file} names no commit: remove it and {download(name)}"


def download(name: str) -> str:
    """What to do about files that the cache lacks."""
    repository, revision = parted(name)
    return f"download the model again (hf download {repository}{f' --revision {revision}' * bool(revision)})"


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, the hub's client draws no bars and does not tell that nothing matched: for a few small files."""
    logger, shown = logging.getLogger("huggingface_hub"), not are_progress_bars_disabled()
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        disable_progress_bars()
        yield
    finally:
        logger.setLevel(level)
        if shown:
            enable_progress_bars()


def _cache(name: str) -> Path:
    return Path(constants.HF_HUB_CACHE, f"models--{parted(name)[0].replace('/', '--')}")
