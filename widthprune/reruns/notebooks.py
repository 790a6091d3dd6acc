"""Execute one notebook with papermill, whole or not at all."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import WidthPruneError


def execute_notebook(
    source: Path, executed: Path, parameters: Mapping, *, cwd: Path, public: Callable[[str], str] = str
) -> None:
    """Run a notebook with these parameters and keep it, with its outputs, as ``executed``.

    A notebook that fails is kept beside it, as far as it came, as ``NAME.failed.ipynb``. What is kept does not tell
    where the notebook lay; ``public`` changes its text, to leave out other paths.

    Raises
    ------
    WidthPruneError
        If a cell fails (the message has its number and error), or was not executed.
    """
    import nbformat
    import papermill

    executed.parent.mkdir(parents=True, exist_ok=True)
    failed = executed.with_suffix(".failed.ipynb")
    try:
        papermill.execute_notebook(
            source, failed, dict(parameters), kernel_name="python3", cwd=cwd, progress_bar=False
        )
    except papermill.PapermillExecutionError as error:
        raise WidthPruneError(
            f"{source.stem} failed in cell {error.cell_index}: {error.ename}: {error.evalue}"
        ) from error
    finally:
        if failed.exists():
            notebook = nbformat.read(failed, as_version=4)
            for name in ("input_path", "output_path"):
                notebook.metadata.get("papermill", {}).pop(name, None)
            # In a book the parameters of this execution are folded as those of the source are.
            for cell in notebook.cells:
                if "injected-parameters" in (tags := cell.metadata.get("tags", [])):
                    tags.append("hide-input")
            failed.write_text(public(nbformat.writes(notebook)), encoding="utf-8")
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.strip() and not cell.execution_count:
            raise WidthPruneError(f"{source.stem} has a cell that was not executed: {cell.source[:60]!r}")
    os.replace(failed, executed)
