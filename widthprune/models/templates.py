"""A tokenizer's chat template: a program of a stranger's, run in a sandbox, which may fail or never end."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import wraps
from subprocess import DEVNULL, PIPE

from ..errors import WidthPruneError, first_line
from . import template_trial
from .loading import load_tokenizer, local_directory

SECONDS = 10  # that a template may take for one word


def check_chat_template(name: str) -> None:
    """Refuse a model whose tokenizer has no chat template, or one that fails or does not end on a plain message."""
    tokenizer = load_tokenizer(local_directory(name, weights=False))
    if tokenizer is None or not tokenizer.chat_template:
        raise WidthPruneError(f"the tokenizer of {name} has no chat template: leave out --chat-template")
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:  # several templates, none of which is the default
        fault = first_line(error)
    else:
        fault = _try(template, tokenizer.special_tokens_map)
    if fault:
        raise WidthPruneError(
            f"the chat template of {name} fails ({fault:.200}): copy it again, or leave out --chat-template"
        )


def _try(template: str, tokens: Mapping[str, str]) -> str:
    """Why a template cannot be filled with one word; empty if it can. In a process that can be killed."""
    asked = json.dumps({"template": template, "tokens": tokens}, default=str)
    words = [sys.executable, "-P", template_trial.__file__]
    with subprocess.Popen(
        words, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True, encoding="utf-8", errors="backslashreplace"
    ) as trial:
        try:
            if trial.stdout.readline().strip() != "ready":  # only then the time counts
                raise WidthPruneError(
                    f"the chat template cannot be tried: {sys.executable} cannot import transformers"
                )
            said, _ = trial.communicate(asked, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return f"it takes more than {SECONDS:g} seconds"
        finally:
            trial.kill()
    return "" if trial.returncode == 0 else said.strip() or "it ends the process that tries it"


def limited(template: Callable) -> Callable:
    """A function that fills a chat template, which for each text may take no longer than for the first word."""

    @wraps(template)
    def fill(*args, **kwargs):
        try:
            with time_limit(SECONDS):
                return template(*args, **kwargs)
        except TimeoutError as error:
            raise WidthPruneError(
                f"the chat template does not end on a prompt ({error}): copy it again, or leave out --chat-template"
            ) from None

    return fill


@contextmanager
def time_limit(seconds: float):
    """Inside, `TimeoutError` is raised after so many seconds, where a signal can do that: in the main thread, on Unix."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number, frame):
        raise TimeoutError(f"it takes more than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
