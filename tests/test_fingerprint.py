"""Fingerprints: which changes of the code make which measurements stale."""

import shutil

import pytest

from widthprune.reruns.fingerprint import PACKAGE, all_code, imported, scoring_code


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
    "a comment": ("criteria.py", "\n# a remark\n", set()),
    "the criteria": ("criteria.py", "\nEXTRA = 1\n", {"pruned", "notebooks"}),
    "the scoring": ("prefix_lm.py", "\nEXTRA = 1\n", {"unpruned", "pruned", "notebooks"}),
    "a task's prompt": ("pocket/pocket_facts.yaml", "\nextra: 1\n", {"unpruned", "pruned"}),
    "the figures": ("figures.py", "\nEXTRA = 1\n", {"notebooks"}),
    "how results are stored": ("results.py", "\nEXTRA = 1\n", {"notebooks"}),
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
        folder.mkdir()
        (folder / "evaluate.py").write_text(text)
    assert scoring_code(True, with_one) == scoring_code(True, without)


def test_a_new_module_counts_as_soon_as_it_is_imported(package):
    (package / "newcomer.py").write_text("VALUE = 1\n")
    before = scoring_code(False, package)
    with (package / "suites.py").open("a") as text:
        text.write("\ndef late():\n    from .newcomer import VALUE\n    return VALUE\n")
    assert "newcomer" in imported(package, "evaluate") and scoring_code(False, package) != before
