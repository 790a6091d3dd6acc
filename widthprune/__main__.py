"""The command line: ``widthprune`` or ``python -m widthprune``. Each room adds its own commands."""

import io
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from traceback import walk_tb

from .commands.interrupts import Interrupted, interruptible
from .commands.options import Parser
from .commands.shared import quiet_downloads
from .errors import WidthPruneError, is_panic, lacks_memory, one_line

# Command -> the module whose function add_<command> adds it.
COMMANDS = {
    "prune": ".checkpoints.command",
    "evaluate": ".evaluation.command",
    "profile": ".efficiency.command",
    "rerun": ".reruns.rerun",
    "floors": ".audit.commands",
    "diagnose": ".audit.commands",
    "compare": ".reruns.compare",
    "check": ".reruns.contributions",
    "contribute": ".reruns.contributions",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        0 if it worked; with one line on stderr, 2 if the input was at fault, and 128 + the number of a
        signal that stopped it: 130 after Ctrl-C, 143 after SIGTERM.
    """
    _open_closed_streams()
    # A terminal that knows ASCII alone is no reason to lose a finished run's table.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    quiet_downloads()
    try:
        with interruptible():
            return _main(arguments)
    except Interrupted as interrupt:
        print(f"widthprune: {interrupt}", file=sys.stderr)
        return interrupt.status


def _open_closed_streams() -> None:
    """Give a process that was started without streams ones that lead nowhere.

    Python has None for them, and the first file that is opened gets their number: what a library prints would go
    into a result.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _main(arguments: list[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        # The parser of one command needs no other's module: a plan of pruning then imports no torch.
        parser = make_parser([name for name in arguments[:1] if name in COMMANDS] or COMMANDS)
        options = parser.parse_args(arguments)
        options.run(options)
        sys.stdout.flush()
    except WidthPruneError as error:
        print(f"widthprune: error: {one_line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough; Python would flush once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # A full disk, a folder that vanished: the system's own words say what to mend.
        print(f"widthprune: error: {one_line(error)}", file=sys.stderr)
        return 2
    except BaseException as error:
        if lacks_memory(error):
            advice = "free memory, or name a smaller model, another device or a smaller batch"
            print(f"widthprune: error: out of memory ({one_line(error):.300}): {advice}", file=sys.stderr)
            return 2
        if why := _cannot_be_imported(error):
            print(f"widthprune: error: {why}", file=sys.stderr)
            return 2
        if not is_panic(error):
            raise
        # Such as a tokenizer's pattern that would take for ever on some text.
        why = f"a file of the model broke the library that reads it ({one_line(error):.300})"
        print(f"widthprune: error: {why}: copy the model again", file=sys.stderr)
        return 2
    return 0


def _cannot_be_imported(error: BaseException) -> str:
    """One line for what broke while a package other than this was imported; empty for all else.

    Some read a variable of the environment then, and their error tells its value, but not its name.
    """
    frames = [frame for frame, _ in walk_tb(error.__traceback__) if frame.f_code.co_name == "<module>"]
    name = frames[-1].f_globals["__name__"] if frames else __package__
    if not isinstance(error, Exception) or name.partition(".")[0] == __package__:
        return ""
    said = f"{name} cannot be imported ({type(error).__name__}: {one_line(error):.300})"
    if isinstance(error, ModuleNotFoundError):
        return f"{said}: install {error.name}"
    named = [variable for variable, value in os.environ.items() if value and repr(value) in str(error)]
    told = len(named) == 1 and not isinstance(error, ImportError)
    return f"{said}: {f'set or unset {named[0]}' if told else 'install its package again'}"


def make_parser(names: Iterable[str] = COMMANDS) -> Parser:
    """The parser of these commands."""
    parser = Parser(prog="widthprune", description="Width pruning of GLU MLPs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for name in names:
        home = import_module(COMMANDS[name], __package__)
        getattr(home, f"add_{name}")(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
