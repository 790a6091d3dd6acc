"""Fingerprints: which changes of the code make which measurements stale."""

import shutil

import pytest

from widthprune import WidthPruneError
from widthprune.reruns.fingerprint import (
    ENTRY,
    PACKAGE,
    PLUMBING,
    PRUNING,
    _file,
    all_code,
    imported,
    scoring_code,
)


@pytest.fixture
def package(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "package", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "package"


def hashes(package):
    return {
        "unpruned": scoring_code(False, package),
        "pruned": scoring_code(True, package),
        "notebooks": all_code(package),
    }


CHANGES = {
    "a comment": ("weight_criteria.py", "\n# a remark\n", set()),
    "the criteria": ("weight_criteria.py", "\nEXTRA = 1\n", {"pruned", "notebooks"}),
    "a variant": ("variants/global_widths.py", "\nEXTRA = 1\n", {"pruned", "notebooks"}),
    "the scoring": ("evaluation/engine/prefix_lm.py", "\nEXTRA = 1\n", {"unpruned", "pruned", "notebooks"}),
    "a task's prompt": ("pocket/pocket_facts.yaml", "\nextra: 1\n", {"unpruned", "pruned"}),
    "the figures": ("report/figures.py", "\nEXTRA = 1\n", {"notebooks"}),
    "how results are stored": ("report/runs.py", "\nEXTRA = 1\n", {"notebooks"}),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_a_change_makes_stale(case, package):
    file, addition, stale = CHANGES[case]
    before = hashes(package)
    with (package / file).open("a") as text:
        text.write(addition)
    after = hashes(package)
    assert {name for name in before if before[name] != after[name]} == stale


def test_docstrings_do_not_count(tmp_path):
    with_one, without = tmp_path / "a", tmp_path / "b"
    for folder, text in ((with_one, '"""What it is."""\nX = 1\n'), (without, "X = 1  # one\n")):
        (folder / "evaluation").mkdir(parents=True)
        (folder / "evaluation" / "__init__.py").touch()
        (folder / "evaluation" / "evaluate.py").write_text(text)
    assert scoring_code(True, with_one) == scoring_code(True, without)


def test_a_new_module_counts_as_soon_as_it_is_imported(package):
    (package / "newcomer.py").write_text("VALUE = 1\n")
    before = scoring_code(False, package)
    with (package / "evaluation" / "suites.py").open("a") as text:
        text.write("\ndef late():\n    from ..newcomer import VALUE\n    return VALUE\n")
    assert "newcomer" in imported(package, ENTRY) and scoring_code(False, package) != before


FORMS = {
    "from .a.b import name": ["a.b"],
    "from .a import b": ["a", "a.b"],
    "from . import top": ["top"],
    "from .a.b import name as other": ["a.b"],
    "import package.a.b": ["a.b"],
    "from package.a import b": ["a.b"],
    "def late():\n    from .a import b": ["a.b"],
}


@pytest.mark.parametrize("text", FORMS)
def test_every_form_of_import_is_followed_out_of_and_into_rooms(text, tmp_path):
    """The room's module leads on to another room, and to a module above both."""
    files = {"evaluate.py": text, "top.py": "", "c/__init__.py": "", "c/d.py": "from ..top import name"}
    files |= {"a/__init__.py": "", "a/b.py": "from ..c import d\nfrom ... import outside\nimport numpy"}
    for name, content in files.items():
        (tmp_path / "package" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "package" / name).write_text(content)
    found = imported(tmp_path / "package", "evaluate")
    assert set(FORMS[text]) <= set(found)
    assert found == (["evaluate", "top"] if "top" in text else ["a", "a.b", "c", "c.d", "evaluate", "top"])


def test_what_ppm_depends_on_counts_wherever_it_lies(package):
    """The criteria move into a room of their own: the hash changes then, and again with their formula."""
    before = scoring_code(True, package)
    (package / "core").mkdir()
    (package / "core" / "__init__.py").touch()
    home = (package / "weight_criteria.py").rename(package / "core" / "weight_criteria.py")
    home.write_text(home.read_text().replace("from .", "from .."))
    for path in package.rglob("*.py"):
        path.write_text(path.read_text().replace(".weight_criteria import", ".core.weight_criteria import"))
    moved = scoring_code(True, package)
    assert moved != before and "core.weight_criteria" in imported(package, ENTRY)
    home.write_text(home.read_text().replace("return largest + smallest.abs()", "return largest"))
    assert scoring_code(True, package) != moved


def test_a_missing_entry_is_refused_and_no_list_names_one(package):
    assert all(_file(package, name) for name in PRUNING + PLUMBING)
    (package / "evaluation" / "evaluate.py").unlink()
    with pytest.raises(WidthPruneError, match=f"has no module {ENTRY}"):
        scoring_code(True, package)
