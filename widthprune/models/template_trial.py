"""A program of its own that fills a chat template once: a signal cannot stop what a template computes in C.

It says "ready", reads {"template", "tokens"} as JSON, and ends well, or prints why not. It imports no torch.
"""

import json
import sys
from contextlib import suppress

MOST_BYTES = 2**30  # that filling may take: the prompt is one word


def limit_memory() -> None:
    """Let the process have so much more memory than it has now, where the system can refuse it."""
    with suppress(ImportError, OSError, ValueError):  # no Windows, and macOS has no such limit
        import resource

        import psutil

        most = psutil.Process().memory_info().vms + MOST_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    conversation = [{"role": "user", "content": "Hello"}]
    render_jinja_template([conversation], chat_template="")  # which imports what it needs
    limit_memory()
    print("ready", flush=True)
    asked = json.load(sys.stdin)
    try:
        render_jinja_template([conversation], chat_template=asked["template"], **asked["tokens"])
    except Exception as error:  # a template is a program, which can do anything but leave its sandbox
        lines = str(error).strip().splitlines() or [type(error).__name__]
        sys.exit(print(lines[0]) or 1)


if __name__ == "__main__":
    main()
