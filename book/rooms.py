"""The page on architecture: the rooms of the package, drawn and listed from its imports and docstrings."""

import ast
from functools import cache
from html import escape
from pathlib import Path

import grimp

import widthprune
from widthprune.__main__ import COMMANDS

PACKAGE = Path(widthprune.__file__).parent
DATA = {"pocket", "published_tables"}
CORE, BOX, GAP = "the core", (190, 40), (26, 30)  # pixels: width and height of a box, and between boxes


def rooms_page() -> str:
    """The drawing and a table of the rooms, in MyST."""
    imports = room_imports()
    rows = [
        f"| `{room}/` | {lines(room):,} | {' '.join(says.split())} |"
        for room in reversed(order(imports))
        if room not in (CORE, "__main__") and (says := docstring(room))
    ]
    table = "\n".join(["| room | lines | what it says of itself |", "|---|---|---|", *rows])
    return f"```{{raw}} html\n{drawing(imports)}\n```\n\n{table}\n"


def room_imports() -> dict[str, set[str]]:
    """Room -> the rooms that its modules import; modules of widthprune itself are the core."""
    graph = grimp.build_graph("widthprune")
    # The command line imports a room when its command is asked for, which no graph of imports shows.
    found = {"__main__": {module.split(".")[1] for module in COMMANDS.values()}}
    for module in graph.modules - {"widthprune"}:
        own = found.setdefault(_room(module), set())
        own |= {_room(other) for other in graph.find_modules_directly_imported_by(module)}
    return {room: used - {room, *DATA} for room, used in found.items() if room not in DATA}


def _room(module: str) -> str:
    first = module.split(".")[1] if "." in module else "__main__"
    return first if (PACKAGE / first / "__init__.py").exists() or first == "__main__" else CORE


def order(imports: dict[str, set[str]]) -> list[str]:
    """The rooms, each after those it imports."""
    level = levels(imports)
    return sorted(imports, key=lambda room: (level[room], room))


def levels(imports: dict[str, set[str]]) -> dict[str, int]:
    """Room -> its row from below: as high as those that import it let it be."""

    @cache
    def depth(room: str) -> int:
        return 1 + max((depth(other) for other in imports if room in imports[other]), default=-1)

    lowest = max(map(depth, imports))
    return {room: lowest - depth(room) for room in imports}


def without_implied(imports: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The arrows that no chain of others stands for."""

    @cache
    def reached(room: str) -> frozenset:
        return frozenset(imports[room]).union(*(reached(used) for used in imports[room]))

    return [
        (room, used)
        for room in imports
        for used in sorted(imports[room])
        if not any(used in reached(other) for other in imports[room] - {used})
    ]


def lines(room: str) -> int:
    """Lines of a room's modules, those of rooms within it too."""
    files = PACKAGE.glob("*.py") if room in (CORE, "__main__") else (PACKAGE / room).rglob("*.py")
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def docstring(room: str) -> str:
    """What a room's ``__init__`` says of it."""
    return ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))) or ""


def drawing(imports: dict[str, set[str]]) -> str:
    """The rooms as an SVG picture in the page's own colours; each row imports from the rows below."""
    level = levels(imports)
    rows = [[room for room in order(imports) if level[room] == i] for i in range(1 + max(level.values()))]
    width = max(map(len, rows)) * (BOX[0] + GAP[0]) + 3 * GAP[0]
    height = len(rows) * (BOX[1] + GAP[1])
    place = {
        room: (width / 2 + (i - (len(row) - 1) / 2) * (BOX[0] + GAP[0]), height - (j + 1) * (BOX[1] + GAP[1]) + GAP[1] / 2)
        for j, row in enumerate(rows)
        for i, room in enumerate(row)
    }  # fmt: skip
    arrows = [
        f'<path d="{_way(place[a], place[b], level[a] - level[b] > 1)}" fill="none" stroke="currentColor" '
        'stroke-opacity="0.6" marker-end="url(#arrow)"/>'
        for a, b in without_implied(imports)
    ]
    boxes = [
        f'<rect x="{x - BOX[0] / 2:g}" y="{y:g}" width="{BOX[0]}" height="{BOX[1]}" rx="6" fill="none" stroke="currentColor"/>'
        f'<text x="{x:g}" y="{y + 25:g}" text-anchor="middle" font-size="15" fill="currentColor">{escape(room)}</text>'
        for room, (x, y) in place.items()
    ]
    said = "; ".join(
        f"{room} imports {', '.join(sorted(used)) or 'nothing'}" for room, used in imports.items()
    )
    head = (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" style="max-width: {width:g}px; width: 100%" '
        f'xmlns="http://www.w3.org/2000/svg"><title>Rooms of the package</title><desc>{escape(said)}</desc>'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="currentColor"/></marker></defs>'
    )
    return "\n".join([head, *arrows, *boxes, "</svg>"])


def _way(start: tuple[float, float], end: tuple[float, float], around: bool) -> str:
    """An arrow's path from one box down to another, straight or around the boxes between them."""
    (x, y), (to_x, to_y) = start, end
    if not around:
        return f"M{x:g} {y + BOX[1]:g}L{to_x:g} {to_y - 3:g}"
    side = max(x, to_x) + BOX[0] / 2 + 2 * GAP[0]
    y, to_y = y + BOX[1] / 2, to_y + BOX[1] / 2
    return f"M{x + BOX[0] / 2:g} {y:g}C{side:g} {y:g} {side:g} {to_y:g} {to_x + BOX[0] / 2 + 3:g} {to_y:g}"
