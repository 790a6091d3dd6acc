"""What a line tells a user to install can be installed."""

import re
import tomllib
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
DECLARED = set(
    tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"],
)


def test_every_extra_is_found_by_every_pip():
    """pip before 23.3 knows an extra by its written name alone, and setuptools writes the canonical one."""
    assert set(map(canonicalize_name, DECLARED)) == DECLARED


def test_every_extra_that_is_asked_for_exists():
    read = [
        ROOT / "README.md",
        *(path for room in ("widthprune", "notebooks", "book") for path in (ROOT / room).rglob("*")),
    ]
    texts = [path.read_text() for path in read if path.suffix in (".py", ".md", ".ipynb")]
    asked = {
        extra.strip()
        for text in texts
        for named in re.findall(r"widthprune\[([a-z0-9.,_ -]+)\]", text)
        for extra in named.split(",")
    }
    assert {"evaluation", "qwen-1-5b"} <= asked <= DECLARED
