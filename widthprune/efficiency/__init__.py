"""`widthprune profile`: time and energy of generation at each width, measured, and from the published runs.

In: a model's name and workloads, or the published runs. Out: results files, summaries, figures.
May import the core, `models`, `commands`, `variants`, `report` and `evaluation`.
"""
