"""Reruns: a question to a model planned, run by Snakemake, recorded, compared, checked and contributed."""
