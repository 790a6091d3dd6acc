"""`widthprune evaluate`: what is left of a model at each width, by lm-eval's benchmarks.

In: a model's name, benchmarks, a grid of widths. Out: a results file for each, as `report` reads them.
`engine` reads models fast; `measure` is one benchmark on one model.
May import the core, `models`, `commands`, `variants`, `checkpoints` and `report`.
"""
