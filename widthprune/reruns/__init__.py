"""`widthprune rerun`: a question to a model planned, run by Snakemake, recorded, compared, and contributed.

In: a model, ratios, experiments. Out: a folder with results, executed notebooks and a book of its own.
May import every other room.
"""
