"""Fingerprints of code: which measurements a change of this package makes stale.

A result's own settings do not name the code that scored it, so a rerun keeps its measurements apart by
these hashes. Comments, docstrings and formatting do not count: they cannot change a number.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
# A room stands for all that is in it. Only pruned models depend on these; the unpruned one is never scored or sliced.
PRUNING = (
    "activation_criteria",
    "calibration",
    "criteria",
    "layouts",
    "mlps",
    "pruning",
    "scores",
    "sizes",
    "slicing",
    "variants",
    "weight_criteria",
    "widths",
)
# These store and explain numbers, and cannot change one.
PLUMBING = ("commands", "errors", "evaluation.readiness", "evaluation.samples", "report")
# Whose imports say what code a result needs.
ENTRY = "evaluation.evaluate"


def scoring_code(pruned: bool, package: Path = PACKAGE) -> str:
    """Hash of the modules that decide what a benchmark gives on a pruned or the unpruned model.

    They are found by following the imports of ``ENTRY``: a new module counts unless it is listed
    above as one that cannot matter.
    """
    left_out = PLUMBING if pruned else PLUMBING + PRUNING
    modules = [
        name
        for name in imported(package, ENTRY)
        if name not in left_out and name.partition(".")[0] not in left_out
    ]
    texts = [f"{name}\n{meaning(_file(package, name))}" for name in modules]
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
    """Modules of a package that one of them imports, at any depth, itself included; sorted.

    Parameters
    ----------
    package : Path
        The package's folder; Python finds the package by the folder's name.
    name : str
        A module, dotted from the package on: "pruning", "reruns.plan".
    """
    import grimp  # here, since other commands need none of what comes with a rerun

    graph = grimp.build_graph(package.name, cache_dir=None)
    found, todo = {package.name}, [f"{package.name}.{name}"]
    while todo:
        module = todo.pop()
        if module not in found:
            found.add(module)
            # Importing a module runs the __init__ of each room above it.
            todo += [module.rpartition(".")[0], *graph.find_modules_directly_imported_by(module)]
    return sorted(module.removeprefix(f"{package.name}.") for module in found - {package.name})


def _file(package: Path, module: str) -> Path | None:
    """The file of a module, or of a room: its ``__init__``."""
    path = package.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def meaning(path: Path) -> str:
    """A module's code without comments, docstrings and layout."""
    return _meaning(path.read_text(encoding="utf-8"))


@cache  # the three hashes of a plan read most modules each
def _meaning(code: str) -> str:
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _digest(texts) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
