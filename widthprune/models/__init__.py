"""Models by name: a packaged one, a folder, a GGUF file, or a hub id, loaded with arithmetic that suits the machine.

In: a name. Out: the model and its tokenizer, its files, its shape, its version.
Nothing here scores or prunes. May import the core.
"""
