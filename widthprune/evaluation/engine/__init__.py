"""Reading texts fast: a prefix that several texts share is read once; what cannot be read so, lm-eval's class reads.

In: a loaded model and lm-eval's requests. Out: the same numbers as lm-eval's own class.
`choice` decides which of the two reads a model. May import the core alone.
"""
