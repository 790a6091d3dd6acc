"""The model card of a pruned checkpoint."""

from pathlib import Path

from .plans import Plan


def model_card(plan: Plan, name: str) -> str:
    """README.md of a model pruned from ``name``, with sizes, parameters, command and citation."""
    # A local path says nothing to others, and too much about its owner.
    base = Path(name).name if Path(name).exists() else name
    # The hub reads no revision there.
    front = f"base_model: {base.partition('@')[0]}\n" if base == name else ""
    ratio = plan.size_after / plan.hidden_size
    kept = ", ".join(f"{after:,} of {before:,} ({field})" for field, (before, after) in plan.sizes.items())
    table = "\n".join(f"| {row} | {before} | {after} |" for row, before, after in plan.rows())
    return f"""---
{front}tags:
- pruned
---

# {base}, expansion ratio {ratio:.2f}

Width-pruned from {base}: every MLP, or every expert, keeps the neurons with the highest {plan.criterion} score,
{kept}. Not trained afterwards.

| | before | after |
|---|---|---|
{table}

Reproduce: `widthprune prune {base} --criterion {plan.criterion} {plan.target} --out DIRECTORY`

Method: Martra, *Fragile Knowledge, Robust Instruction-Following: The Width Pruning Dichotomy in Llama-3.2*,
arXiv 2512.22671.
"""
