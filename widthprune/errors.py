"""The one exception class for mistakes that a user can mend."""


class WidthPruneError(ValueError):
    """Bad input. The message is one line: the argument, the value it had, and what to do about it."""
