"""Prune a checkpoint by way of the model in memory: for what a pass over the weights cannot know.

Criteria that look at data must run the model, and widths of its own for each layer need all scores before
the first cut. Everything else goes through `prune_checkpoint`, in a few layers' memory.
"""

from dataclasses import replace
from pathlib import Path

from ..calibration import Calibration, calibrate, check_length
from ..criteria import Criterion, find_criterion
from ..errors import COPY_AGAIN, WidthPruneError, in_one_line
from ..mlps import check_layout, find_mlps, text_fields
from ..models.files import copy_beside
from ..models.loading import load_model, load_tokenizer, local_directory, meta_model_of
from ..models.saving import saving
from ..pruning import unsaveable
from ..variants.prune import check_variant, prune_model
from ..widths import find_widths
from .cards import model_card
from .destination import moved_into_place
from .plans import Plan
from .shards import check_unchanged, stamps
from .stream import check_disk, prune_checkpoint


def prune_loaded(
    src: str | Path,
    dst: str | Path,
    criterion: str,
    *,
    pruning_pct: float | None = None,
    expansion_ratio: float | None = None,
    multiple_of: int = 1,
    seed: int = 0,
    calibration: Calibration | None = None,
    global_widths: bool = False,
    dry_run: bool = False,
    progress: bool = True,
) -> Plan:
    """Load a model, prune it, and write it to a new directory, whole or not at all.

    Parameters
    ----------
    src, dst, dry_run, progress
        As for `prune_checkpoint`.
    criterion, pruning_pct, expansion_ratio, multiple_of, seed, global_widths
        As for `prune_model`.
    calibration : Calibration, optional
        The text for criteria that look at data; default the package's own.

    Returns
    -------
    Plan
        Sizes, parameters and bytes, before and after.

    Raises
    ------
    WidthPruneError
        As `prune_checkpoint`; if the model would not load again (a bias or widths that its config cannot
        declare); if the text or the tokenizer is at fault. Nothing is left behind.
    """
    record, calibration = find_criterion(criterion), calibration or Calibration()
    criterion = record.name
    options = dict(pruning_pct=pruning_pct, expansion_ratio=expansion_ratio, multiple_of=multiple_of)
    # Every check of the other way holds for this one; its criterion is not looked at.
    plan = prune_checkpoint(src, dst, "PPM", **options, seed=seed, dry_run=True)
    if isinstance(plan, list):
        raise WidthPruneError(
            f"criterion {criterion} or global widths write one model at a time: give one pruning_pct or ratio"
        )
    source = Path(local_directory(str(src)))
    noted = stamps(source)
    described = meta_model_of(source)
    _check_saveable(described, record, global_widths)
    if record.needs_text:
        check_length(described, max(map(len, calibration.token_sequences(load_tokenizer(source)))))
    extra = (calibration.options() if record.needs_text else []) + ["--global"] * global_widths
    plan = replace(plan, criterion=criterion, target=" ".join([plan.target, *extra]))
    if record.adds_bias:
        plan = _with_biases(plan, source)
    check_disk(Path(dst), [plan])
    if dry_run:
        return plan
    # From before the work: of two processes that write one destination, one need not begin.
    with moved_into_place(Path(dst)) as partial:
        model, tokenizer = load_model(str(src))
        looks = {}
        if record.needs_text:
            looks["activations"] = calibrate(
                model, tokenizer, calibration, gradients=record.needs_gradients, progress=progress
            )
        prune_model(
            model, criterion, **options, seed=seed, global_widths=global_widths, inplace=True, **looks
        )
        plan = _measured(plan, model, global_widths)
        # A field may be wrong that only saving looks at.
        with in_one_line(f"{src} cannot be saved", COPY_AGAIN), saving(partial):
            model.save_pretrained(partial)
        copy_beside(source, partial)
        (partial / "README.md").write_text(model_card(plan, str(src)), encoding="utf-8")
        check_unchanged(source, noted)
    return plan


def _with_biases(plan: Plan, source: Path) -> Plan:
    """The plan with the parameters of the biases that ``mlp_bias`` brings, where the model has none."""
    changes = {name: after for name, (_, after) in plan.sizes.items()}
    if "mlp_bias" in text_fields(meta_model_of(source)):
        changes["mlp_bias"] = True
    parameters = meta_model_of(source, changes).num_parameters()
    nbytes = plan.bytes_after * parameters // plan.parameters_after
    return replace(plan, parameters_after=parameters, bytes_after=nbytes)


def _measured(plan: Plan, model, global_widths: bool) -> Plan:
    """The plan with what came of it: a bias adds parameters, and global widths differ from the mean."""
    if global_widths:
        mlps = find_mlps(model)
        widths = find_widths(mlps, text_fields(model), type(model).__name__)
        after = {str(widths[mlp.name]): mlp.size for mlp in mlps}
        plan = replace(plan, sizes={name: (plan.sizes[name][0], size) for name, size in after.items()})
    return replace(
        plan,
        parameters_after=model.num_parameters(),
        bytes_after=model.get_memory_footprint(return_buffers=False),
    )


def _check_saveable(model, criterion: Criterion, global_widths: bool) -> None:
    """Refuse, before any weight is read, what could not be loaded again."""
    check_variant(model, criterion, global_widths)
    if global_widths:
        widths = find_widths(check_layout(model), text_fields(model), type(model).__name__)
        # Each MLP needs a field, or an entry of a list, of its own.
        if len(set(widths.values())) < len(widths):
            raise WidthPruneError(unsaveable(model, widths))
