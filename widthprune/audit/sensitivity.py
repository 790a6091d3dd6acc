"""How far the ledger's verdicts depend on its own rules: how many change when a rule does."""

from collections.abc import Iterable

import pandas as pd

from .claims import Claim
from .evidence import Evidence
from .ledger import judge


def variants(evidence: Evidence) -> dict[str, dict]:
    """The other rules that are tried: what each is called, and the options of `Evidence.vary`."""
    left_out = {f"without {model}": {"without": model} for model in evidence.models()}
    return {
        "floors of responders that read the prompt, the echo among them": {
            "floor_kinds": ("blind", "reading")
        },
        "the floor of instructions on all prompts, those that its text was chosen on among them": {
            "floor_kinds": ("on all prompts",)
        },
        "three standard errors instead of two": {"sigmas": 3.0},
        "no correction by Holm": {"holm": False},
        "a loss of an eighth matters, and not only of a quarter": {"margin": 0.125},
        "only a loss of half matters, and not of a quarter": {"margin": 0.5},
    } | left_out


def sensitivity(evidence: Evidence, claims: Iterable[Claim]) -> pd.DataFrame:
    """How many verdicts change under each of `variants`, and which, from what to what.

    The verdicts themselves stand on floors without the echo and on prompts held out, two standard errors, Holm, the margin
    of a quarter, and every model.

    Returns
    -------
    DataFrame
        One row a variant: ``changed``, ``of`` (all claims), and ``which``.
    """
    claims = list(claims)
    now = {claim.id: judge(claim, evidence).outcome for claim in claims}
    rows = []
    for name, options in variants(evidence).items():
        other = evidence.vary(**options)
        outcomes = {claim.id: judge(claim, other).outcome for claim in claims}
        moved = [f"{key}: {now[key]} → {outcomes[key]}" for key in now if outcomes[key] != now[key]]
        rows.append({"variant": name, "changed": len(moved), "of": len(claims), "which": "; ".join(moved)})
    return pd.DataFrame(rows)
