"""The rooms of the package: small core, arrows that go one way, and each says what it holds."""

import ast
import re
from pathlib import Path

import grimp
import pytest
from importlinter.cli import lint_imports

import widthprune

PACKAGE = Path(widthprune.__file__).parent
ROOMS = sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)
DATA = {"pocket", "published_tables"}


def test_imports_go_one_way(monkeypatch):
    monkeypatch.chdir(PACKAGE.parent)
    assert lint_imports() == 0


def test_an_arrow_that_goes_up_is_found(monkeypatch, tmp_path):
    monkeypatch.chdir(PACKAGE.parent)
    config = Path("pyproject.toml").read_text()
    assert '    "reruns",\n    "audit",\n' in config
    turned = config.replace(
        '    "reruns",\n    "audit",\n', '    "audit",\n    "evaluation",\n    "reruns",\n', 1
    )
    turned = turned.replace('    "efficiency",\n    "evaluation",\n', '    "efficiency",\n', 1)
    (tmp_path / "pyproject.toml").write_text(turned)
    assert lint_imports(str(tmp_path / "pyproject.toml")) != 0


def test_the_core_is_small_and_none_of_its_modules_long():
    assert len(list(PACKAGE.glob("*.py"))) <= 15
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.glob("*.py")}
    assert not {str(path): n for path, n in lengths.items() if n > 300}


@pytest.mark.parametrize("room", [r for r in ROOMS if r.name not in DATA], ids=lambda room: room.name)
def test_a_room_says_what_goes_in_and_out_and_imports_what_it_says(room):
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
    assert len(text.splitlines()) <= 6 and "In: " in text and "Out: " in text
    may = set(re.findall(r"`(\w+)`", text[text.index("ay import") :])) | {room.name}
    if "every other room" in text:
        may = {each.name for each in ROOMS}
    graph = grimp.build_graph("widthprune")
    name = ".".join(room.relative_to(PACKAGE.parent).parts)
    within = graph.find_descendants(name)
    used = set().union(*map(graph.find_modules_directly_imported_by, within)) - within
    rooms = {".".join(each.relative_to(PACKAGE.parent).parts) for each in ROOMS if each.name not in DATA}
    used_rooms = {room for room in rooms if any(module.startswith(f"{room}.") for module in used)}
    assert {each.split(".")[1] for each in used_rooms} - {name.split(".")[1]} <= may
