"""Options that several commands have, and what they print alike."""

import logging

from ..errors import WidthPruneError
from .options import COUNT, TOKENS, Distinct, existing_file, model_name

SEVERAL = {"nargs": "+", "action": Distinct}
ANY = {"nargs": "*", "action": Distinct}


def add_model(command) -> None:
    command.add_argument(
        "model",
        type=model_name,
        help="a packaged model such as smollm2-135m-instruct, a local directory, a GGUF file, or a hub id[@revision]",
    )


def add_placement(command) -> None:
    command.add_argument(
        "--dtype",
        default="auto",
        help="of the weights: auto (the checkpoint's), float32, bfloat16, float16, float64",
    )
    command.add_argument("--device", default="cpu", help="cpu (default), cuda, mps")


def add_calibration(command) -> None:
    command.add_argument(
        "--calibration",
        type=existing_file,
        metavar="FILE",
        help="text or JSON Lines for criteria that look at data; default the package's own",
    )
    command.add_argument(
        "--calibration-sequences", type=COUNT, default=128, metavar="N", help="at most; default 128"
    )
    command.add_argument(
        "--calibration-length", type=TOKENS, default=256, metavar="TOKENS", help="of a sequence; default 256"
    )
    command.add_argument(
        "--global",
        dest="global_widths",
        action="store_true",
        help="let neurons compete across layers, each of which then has a width of its own",
    )


def calibration_of(options):
    from ..calibration import Calibration

    lengths = (options.calibration_sequences, options.calibration_length)
    return Calibration(options.calibration, *lengths, options.seed)


def quiet_downloads() -> None:
    """Keep each try of a download that breaks off out of the terminal: the line on its end says why."""
    logging.getLogger("huggingface_hub.file_download").addFilter(_no_broken_try)


def _no_broken_try(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Error while downloading")


def add_dry_run(command) -> None:
    command.add_argument(
        "--dry-run", action="store_true", help="check all that the run would need, count, write nothing"
    )


def print_sweep(table, options, choose, columns: list[str]) -> None:
    """The rows of a sweep that ``choose`` picks; what could not be measured and why; what a dry run would measure."""
    if len(table) and not options.dry_run:
        print(choose(table)[columns].to_string(index=False, float_format="{:.4g}".format))
    for task, reason in table.attrs["missing"].items():
        print(f"missing: {task}: {reason}")
    if not len(table) and not options.dry_run:
        raise WidthPruneError("nothing could be measured: the lines above say why of each")
    if options.dry_run:
        asked, stored = table.attrs["asked"], table.attrs["stored"]
        print(
            f"{asked} runs asked, {stored} of them stored, {asked - stored} to measure; nothing was written"
        )
