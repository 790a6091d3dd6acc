"""`widthprune prune`."""

from ..commands.options import COUNT, PERCENTAGE, RATIO, SEED, criterion, folder_to_write
from ..commands.shared import SEVERAL, add_calibration, add_dry_run, add_model, calibration_of
from ..criteria import REGISTRY, find_criterion
from ..errors import WidthPruneError


def add_prune(commands) -> None:
    command = commands.add_parser("prune", help="prune a model and save it")
    command.set_defaults(run=prune)
    add_model(command)
    command.add_argument(
        "--out", type=folder_to_write, required=True, help="directory to write; must not exist yet"
    )
    command.add_argument(
        "--criterion", type=criterion, default="PPM", help=f"default PPM; of {', '.join(REGISTRY)}"
    )
    several = "; several values write OUT/NAME for each, in one pass"
    command.add_argument(
        "--pruning-pct",
        type=PERCENTAGE,
        **SEVERAL,
        metavar="PCT",
        help=f"percentage of neurons to remove{several}",
    )
    command.add_argument(
        "--expansion-ratio",
        type=RATIO,
        **SEVERAL,
        metavar="RATIO",
        help=f"intermediate size / hidden size to reach{several}",
    )
    command.add_argument("--multiple-of", type=COUNT, default=1, help="round the kept size up to a multiple")
    command.add_argument(
        "--seed", type=SEED, default=0, help="for RANDOM, and for drawing from a long calibration text"
    )
    add_calibration(command)
    add_dry_run(command)


def prune(options) -> None:
    # Imported here, so that --help and a misspelt option answer at once.
    prune_by, looks = _way_to_prune(options)
    # One value names one model, which is OUT itself.
    pct, ratio = (
        value[0] if value and len(value) == 1 else value
        for value in (options.pruning_pct, options.expansion_ratio)
    )
    plans = prune_by(
        options.model,
        options.out,
        options.criterion,
        pruning_pct=pct,
        expansion_ratio=ratio,
        multiple_of=options.multiple_of,
        seed=options.seed,
        dry_run=options.dry_run,
        **looks,
    )
    for plan in plans if isinstance(plans, list) else [plans]:
        print(plan)
    print("nothing was written" if options.dry_run else options.out)


def _way_to_prune(options):
    """The function that prunes, and its own arguments: tensor by tensor unless the whole model is needed."""
    if options.global_widths or find_criterion(options.criterion).needs_text:
        from .loaded import prune_loaded

        looks = {"calibration": calibration_of(options), "global_widths": options.global_widths}
        return prune_loaded, looks
    if options.calibration is not None:
        raise WidthPruneError(f"criterion {options.criterion} looks at no data: leave out --calibration")
    from .stream import prune_checkpoint

    return prune_checkpoint, {}
