"""Fingerprints: which changes of the code make which measurements stale."""

import shutil

import pytest
from grimp.exceptions import ModuleNotPresent

from widthprune.reruns.fingerprint import (
    ENTRY,
    PACKAGE,
    PLUMBING,
    PRUNING,
    _file,
    all_code,
    imported,
    meaning,
    scoring_code,
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
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
    texts = {"with.py": '"""What it is."""\nX = 1\n', "without.py": "X = 1  # one\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert len({meaning(tmp_path / name) for name in texts}) == 1


def test_a_new_module_counts_as_soon_as_it_is_imported(package):
    (package / "newcomer.py").write_text("VALUE = 1\n")
    before = scoring_code(False, package)
    with (package / "evaluation" / "suites.py").open("a") as text:
        text.write("\ndef late():\n    from ..newcomer import VALUE\n    return VALUE\n")
    assert "newcomer" in imported(package, ENTRY) and scoring_code(False, package) != before


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
    with pytest.raises(ModuleNotPresent, match=ENTRY):
        scoring_code(True, package)
