"""The ledger: every claim of the paper, judged by rules from published and measured numbers.

In: the tables of `report` and `studies`, claims.yaml, floors.csv. Out: outcomes with reasons; floors, controls, diagnostics.
No verdict is written by hand.
May import the core, `models`, `commands`, `report`, `checkpoints`, `evaluation`, `efficiency` and `studies`.
"""
