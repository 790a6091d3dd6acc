"""The claims of the ledger as ``claims.yaml`` states them, read and checked. That file says what its fields mean."""

from collections.abc import Sized
from dataclasses import MISSING, dataclass, fields
from importlib import resources

import yaml

from ..errors import WidthPruneError
from .effects import answer_of

# The parser in C is ten times as fast, where it was built.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, in our words, and how it is judged."""

    id: str
    group: str
    claim: str
    where: str
    chapter: str
    recompute: str | None
    printed: float | None = None
    tolerance: float | None = None
    digits: int | None = None
    unit: str = ""
    found: str | None = None
    holds: str | None = None
    beside: str | None = None
    measured: str | None = None
    grown: str | None = None
    only: str = ""
    control: str | list[str] = ""
    alike: str | list[str] | None = None
    needs: str = ""
    v3: str = ""

    @property
    def controls(self) -> list[tuple[str, str]]:
        """Every control with its rule."""
        return list(
            zip(*(x if isinstance(x, list) else [x] for x in (self.control, self.alike)), strict=True)
        )


FIELDS = {field.name: field.default is MISSING for field in fields(Claim)}  # name -> whether a claim needs it


def load_claims(text: str | None = None) -> list[Claim]:
    """The claims that ship with the package, or those of a YAML text, checked.

    Raises
    ------
    WidthPruneError
        If a claim lacks a field, has an unknown one, repeats an id, or states no way to be judged.
    """
    if text is None:
        text = resources.files(__package__).joinpath("claims.yaml").read_text(encoding="utf-8")
    claims = []
    for entry in yaml.load(text, Loader=_LOADER):
        name = entry.get("id", "a claim without id")
        if missing := sorted({name for name, needed in FIELDS.items() if needed} - set(entry)):
            raise WidthPruneError(f"claims.yaml: {name} lacks {', '.join(missing)}")
        if unknown := sorted(set(entry) - set(FIELDS)):
            raise WidthPruneError(f"claims.yaml: {name} has unknown fields {', '.join(unknown)}")
        if name in {claim.id for claim in claims}:
            raise WidthPruneError(f"claims.yaml: the id {name} is there twice")
        if "printed" in entry and "tolerance" not in entry:
            raise WidthPruneError(f"claims.yaml: {name} prints a number and states no tolerance")
        if entry.get("alike") and not entry.get("control"):
            raise WidthPruneError(f"claims.yaml: {name} has a rule for a control and does not name it")
        named, ruled = ([x] if isinstance(x, str) else x or [] for x in map(entry.get, ("control", "alike")))
        if len(named) != len(ruled):
            raise WidthPruneError(f"claims.yaml: {name} names {len(named)} controls, with {len(ruled)} rules")
        if entry["recompute"] is None and not any(map(entry.get, ("measured", "grown", "needs"))):
            raise WidthPruneError(f"claims.yaml: {name} states no rule, and not what one would need")
        claims.append(Claim(**entry))
    return claims


def found_text(claim: Claim, x) -> str:
    if claim.printed is None:
        return answer_of(x)
    return f"{x:{'+' if claim.unit else ''}.{digits(claim)}f}{claim.unit}"


def printed(claim: Claim) -> str:
    return "" if claim.printed is None else found_text(claim, claim.printed)


def digits(claim: Claim) -> int:
    """Digits after the point: as stated, or from the tolerance of half a last digit."""
    if claim.digits is not None:
        return claim.digits
    return max(0, len(f"{claim.tolerance:.6f}".rstrip("0").partition(".")[2]) - 1)


def counted(things: Sized, name: str) -> str:
    """How many there are, in words.

    >>> counted([1], "claim"), counted([], "number")
    ('1 claim', '0 numbers')
    """
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"
