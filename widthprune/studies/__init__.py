"""The paper's open questions, asked of models grown here, whose knowledge is known, and of packaged ones.

In: seeds, two checkpoints of one shape, or a model's name. Out: tidy tables of what pruning takes, where tuning wrote,
figures. The ledger reads the tables. May import the core, `models`, `commands`, `report`, `checkpoints`, `evaluation`.
"""
