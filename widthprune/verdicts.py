"""Verdicts of a chapter: how a claim fared on the notebook's own model. The front page's are `widthprune.audit.ledger`'s."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from .errors import WidthPruneError
from .escaping import as_myst

OUTCOMES = ("reproduced", "partly", "not reproduced", "not testable")
MIME = "application/vnd.widthprune.verdict+json"


@dataclass(frozen=True)
class Verdict:
    """One claim and what became of it. In a notebook it shows itself as a box with the four facts."""

    claim: str
    published: str
    measured: str
    outcome: str
    because: str

    def _repr_mimebundle_(self, include=None, exclude=None):
        # They name models and other strings of results files.
        claim, published, measured, because = map(
            as_myst, (self.claim, self.published, self.measured, self.because)
        )
        text = (
            f"**Verdict: {self.outcome}.** {claim}\n\n"
            f"- Published: {published}\n- Measured: {measured}\n- Why: {because}"
        )
        return {MIME: asdict(self), "text/markdown": text, "text/plain": text}


def verdict(claim: str, *, published: str, measured: str, outcome: str, because: str) -> Verdict:
    """A verdict, checked.

    Parameters
    ----------
    claim : str
        The claim in one sentence, in our words.
    published, measured : str
        The paper's numbers, and the ones computed here, both already formatted.
    outcome : str
        One of ``OUTCOMES``. It must follow from the numbers: compute it, never type it.
    because : str
        The rule that gave the outcome, with the numbers that decided.
    """
    if outcome not in OUTCOMES:
        raise WidthPruneError(f"outcome must be one of {', '.join(OUTCOMES)}, got {outcome!r}")
    return Verdict(claim, published, measured, outcome, because)


def grade(checks: Mapping[str, bool]) -> tuple[str, str]:
    """(outcome, because) of named checks: reproduced if all hold, not if none does, else partly.

    >>> grade({"MMLU falls": True, "IFEval rises": False})
    ('partly', 'MMLU falls: yes; IFEval rises: no')
    """
    if not checks:
        return "not testable", "nothing was measured"
    held = [bool(check) for check in checks.values()]
    outcome = "reproduced" if all(held) else "partly" if any(held) else "not reproduced"
    return outcome, "; ".join(f"{name}: {'yes' if check else 'no'}" for name, check in checks.items())


def collect(notebook: Mapping) -> list[Verdict]:
    """The verdicts among the outputs of an executed notebook, read as JSON."""
    return [
        Verdict(**output["data"][MIME])
        for cell in notebook["cells"]
        for output in cell.get("outputs", ())
        if MIME in output.get("data", {})
    ]
