"""`widthprune prune`: a model's directory in, a smaller one out, which transformers loads.

In: a model's name and sizes. Out: a directory that is there whole or not at all. `stream` goes tensor by tensor,
`loaded` by way of the model in memory, for criteria that look at data.
May import the core, `models`, `commands` and `variants`.
"""
