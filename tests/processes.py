"""Commands in processes of their own, which cost little more than their work, for tests that kill them."""

import multiprocessing
import os
import sys
from pathlib import Path

# Forks from a process that has imported everything.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["widthprune.checkpoints.loaded", "transformers.models.llama.modeling_llama"])


def start(arguments: list[str], stderr: Path) -> multiprocessing.Process:
    """The command line with these arguments, begun; its stderr goes to a file."""
    child = _CONTEXT.Process(target=_run, args=(arguments, str(stderr)))
    child.start()
    return child


def _run(arguments, stderr):
    from widthprune.__main__ import main

    with open(stderr, "w") as file:
        os.dup2(file.fileno(), 2)
    sys.exit(main(arguments))
