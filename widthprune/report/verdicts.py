"""Verdicts: the outcomes that a claim can have, and how a notebook shows one. `widthprune.audit.ledger` reaches them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ..errors import WidthPruneError
from .escaping import code_in_myst

# In this order wherever they are counted. Chapters and ledger share them.
OUTCOMES = (
    "reproduced",
    "reproduced, but a control does as much or more",
    "inconclusive",
    "not reproduced",
    "does not transfer to the models measured here",
    "not testable here",
)
MIME = "application/vnd.widthprune.verdict+json"


@dataclass(frozen=True)
class Verdict:
    """One claim and what became of it. In a notebook it shows itself as a box with the facts.

    ``id`` names the claim in the ledger; ``published`` and ``measured`` are what the paper prints and what was
    computed from it or measured here, as text; ``because`` is what decided; ``damage`` says of each model measured at
    which widths it is still better than word frequencies, empty where nothing measured bears on the claim.
    """

    id: str
    claim: str
    published: str
    measured: str
    outcome: str
    because: str
    damage: str = ""

    def __post_init__(self):
        if self.outcome not in OUTCOMES:
            raise WidthPruneError(f"outcome must be one of {', '.join(OUTCOMES)}, got {self.outcome!r}")

    def _repr_mimebundle_(self, include=None, exclude=None):
        # They name models and other strings of results files.
        facts = {
            "Published": self.published,
            "Found": self.measured,
            "Damage": self.damage,
            "Why": self.because,
        }
        listed = "\n".join(f"- {name}: {code_in_myst(fact)}" for name, fact in facts.items() if fact)
        text = f"**Verdict: {self.outcome}.** {code_in_myst(self.claim)}\n\n{listed}"
        return {MIME: asdict(self), "text/markdown": text, "text/plain": text}


def collect(notebook: Mapping) -> list[Verdict]:
    """The verdicts among the outputs of an executed notebook, read as JSON."""
    return [
        Verdict(**output["data"][MIME])
        for cell in notebook["cells"]
        for output in cell.get("outputs", ())
        if MIME in output.get("data", {})
    ]
