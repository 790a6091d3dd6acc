"""The paper's open questions, asked of models grown here: what they know, and how often they read it, is known.

In: seeds, or two checkpoints of one shape. Out: tidy tables of what pruning takes and where tuning wrote, figures.
No verdict: the ledger reads the tables. May import the core, `models`, `commands`, `report` and `checkpoints`.
"""
