"""Variants of the paper's method, for whoever wants to compare them; the core knows none of them.

In: a loaded model, and scores or activations that the core made. Out: a pruned model.
A variant chooses other neurons for `pruning.cut_model`, or adds to what it returns.
May import the core (the modules of widthprune itself), and no other room.
"""
