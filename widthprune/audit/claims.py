"""The claims of the ledger as ``claims.yaml`` states them. That file says what its fields mean."""

from collections.abc import Sized
from dataclasses import dataclass
from importlib import resources

import yaml

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


def load_claims() -> list[Claim]:
    """The claims that ship with the package; a test looks at what each of them states."""
    text = resources.files(__package__).joinpath("claims.yaml").read_text(encoding="utf-8")
    return [Claim(**entry) for entry in yaml.load(text, Loader=_LOADER)]


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
