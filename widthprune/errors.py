"""The one exception class for mistakes that a user can mend, and advice that several places give."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


class WidthPruneError(ValueError):
    """Bad input. The message is one line: the argument, the value it had, and what to do about it."""


MOST = 2000  # characters of a message: a name in it may be of any length
# For what transformers cannot build or load, and does not say why in a user's words.
COPY_AGAIN = "copy the model's config.json and weights again, or upgrade transformers if the model is newer"


def pickle_remedy(name: str) -> str:
    """One line for a directory whose weights are pickled."""
    repository, at, revision = name.partition("@")
    # A folder may have an @ in its name, too.
    given = f"{repository!r}, revision={revision!r}" if at and not os.path.exists(name) else repr(name)
    return (
        f"{name} holds pickle weights, which can run code and are refused: if you trust it, convert it with "
        f"AutoModelForCausalLM.from_pretrained({given}, use_safetensors=False).save_pretrained(new_directory)"
    )


def remote_code_remedy(name: str) -> str:
    """One line for a model that brings code of its own."""
    return (
        f"{name} wants to run code from its repository, which is refused: use a model that transformers knows"
    )


def is_panic(error: BaseException) -> bool:
    """Whether code written in Rust, such as tokenizers, broke: that is no `Exception`, and no package offers its class."""
    return type(error).__name__ == "PanicException"


def lacks_memory(error: BaseException) -> bool:
    """Whether the machine has too little memory, a device's included: torch need not be imported to ask."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)  # as torch says of a processor's, in a RuntimeError


@contextmanager
def in_one_line(what: str, advice: str) -> Iterator[None]:
    """Inside, whatever breaks ends in one line: ``what``, the reason, ``advice``.

    For calls of what a model brings along, its formulas, its tokenizer, its chat template: a short text tried before
    the work does not show what a long one breaks. What the machine lacks is no fault of theirs, and passes.
    """
    try:
        yield
    except (WidthPruneError, OSError, ImportError):
        raise
    except BaseException as error:
        if lacks_memory(error) or not (isinstance(error, Exception) or is_panic(error)):
            raise
        raise WidthPruneError(
            f"{what} ({type(error).__name__}: {first_line(error):.200}): {advice}"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, with the next where it only announces that; or its name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def one_line(error: BaseException) -> str:
    """What an exception says, on one line: what would break it, or move the cursor, is written out.

    Of a very long one the middle is left out: its beginning names what is wrong, its end what to do.
    """
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error) or type(error).__name__)
    return text if len(text) <= MOST else f"{text[: MOST - 500]} ... {text[-500:]}"
