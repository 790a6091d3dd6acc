"""Fingerprints of code: which measurements a change of this package makes stale.

A result's own settings do not name the code that scored it, so a rerun keeps its measurements apart by
these hashes. Comments, docstrings and formatting do not count: they cannot change a number.
"""

import ast
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
# Only pruned models depend on these; the unpruned one is never scored or sliced.
PRUNING = (
    "activation_criteria",
    "calibration",
    "compensation",
    "criteria",
    "global_widths",
    "layouts",
    "mlps",
    "pruning",
    "sizes",
    "slicing",
    "widths",
)
# These store and explain numbers, and cannot change one.
PLUMBING = ("errors", "interrupts", "options", "provenance", "readiness", "results", "samples", "tasks")


def scoring_code(pruned: bool, package: Path = PACKAGE) -> str:
    """Hash of the modules that decide what a benchmark gives on a pruned or the unpruned model.

    They are found by following the imports of ``evaluate``: a new module counts unless it is listed
    above as one that cannot matter.
    """
    left_out = PLUMBING if pruned else PLUMBING + PRUNING
    modules = [name for name in imported(package, "evaluate") if name not in left_out]
    texts = [f"{name}\n{meaning(package / f'{name}.py')}" for name in modules]
    texts += [
        f"{path.name}\n{path.read_text(encoding='utf-8')}" for path in sorted(package.glob("pocket/*.yaml"))
    ]
    # The task files name its functions.
    texts += [meaning(path) for path in package.glob("pocket/scoring.py")]
    return _digest(texts)


def all_code(package: Path = PACKAGE) -> str:
    """Hash of every module: what an executed notebook depends on."""
    return _digest(f"{path.relative_to(package)}\n{meaning(path)}" for path in sorted(package.rglob("*.py")))


def imported(package: Path, name: str) -> list[str]:
    """Modules of a package that one of them imports, at any depth, itself included; sorted."""
    found, todo = set(), [name]
    while todo:
        module = todo.pop()
        if module in found or not (package / f"{module}.py").is_file():
            continue
        found.add(module)
        for node in ast.walk(ast.parse((package / f"{module}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                todo += [node.module] if node.module else [alias.name for alias in node.names]
    return sorted(found)


def meaning(path: Path) -> str:
    """A module's code without comments, docstrings and layout."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _digest(texts) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
