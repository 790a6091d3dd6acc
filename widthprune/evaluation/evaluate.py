"""Evaluate a model over a grid of widths with lm-eval, one results file per run, resuming for free."""

import logging
import tempfile
from collections.abc import Collection, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pandas as pd
from tqdm.auto import tqdm

from ..commands.options import SEED, check_list, check_model_name
from ..criteria import GLOBAL, check_across_layers, find_criterion
from ..errors import WidthPruneError
from ..models.loading import model_shape
from ..models.templates import check_chat_template
from ..report.provenance import record
from ..report.results import tidy
from ..report.runs import find_run, run_path, run_rows, write_run
from .grid import PAPER_PCTS, Point, grid
from .measure import measure
from .readers import Readers
from .readiness import check_data, check_ready, check_results_dir, check_variants
from .samples import samples_path, write_samples
from .settings import Settings
from .suites import Benchmark, find_benchmarks


def evaluate(
    model: str,
    tasks: str | Sequence[str] = "pocket",
    *,
    pruning_pcts: Iterable[float] = PAPER_PCTS,
    expansion_ratios: Iterable[float] = (),
    criteria: Iterable[str] = ("PPM",),
    neuron_seeds: Iterable[int] = (),
    global_widths: bool = False,
    results_dir: str = "results",
    save_samples: bool | Collection[str] = False,
    dry_run: bool = False,
    **settings,
) -> pd.DataFrame:
    """Measure benchmarks on one model at every width asked for.

    Every result is written as soon as it is there, and found again by the next call with the same
    settings: an interrupted sweep goes on where it stopped, and loses the task in flight at most.

    Parameters
    ----------
    model : str
        As for `load_model`.
    tasks : str or sequence of str
        A suite ("pocket", "paper", "paper-instruct") or lm-eval tasks of theirs.
    pruning_pcts, expansion_ratios, criteria
        The grid. The unpruned model is always part of it.
    neuron_seeds : iterable of int, optional
        Draws of ``RANDOM``'s neurons, each measured on the same items; default ``seed`` alone.
    global_widths : bool
        As for `prune_model`. The table then says PPM-GLOBAL, and the size is the mean over layers.
    results_dir : str
        Where the results files are read and written.
    save_samples : bool or collection of str
        Write what the model answered to every item beside each result, or beside those of the tasks named: see
        `widthprune.evaluation.samples`. A result that lacks it is measured again.
    dry_run : bool
        Check all that the measuring would need, and measure and write nothing.
    settings
        Fields of `Settings`: ``limit``, ``seed``, ``dtype``, ``max_length``, ``chat_template``, ``backend``,
        ``calibration``, ``device``, ``compute_dtype``, ``batch_size``.

    Returns
    -------
    DataFrame
        The runs of this grid as tidy rows, old and new. ``attrs["missing"]`` maps each task that
        could not be measured to the reason; ``attrs["asked"]`` and ``attrs["stored"]`` count the runs, and
        those that were there before.

    Raises
    ------
    WidthPruneError
        Before anything is measured, if an argument is out of range or the model cannot be pruned.
    """
    how = Settings(**settings)
    check_model_name(model)
    seeds = dict.fromkeys(check_list("neuron_seeds", neuron_seeds, SEED))
    points = grid(
        *model_shape(model),
        pruning_pcts=pruning_pcts,
        expansion_ratios=expansion_ratios,
        criteria=criteria,
        # The seed of the sweep is what RANDOM uses when none is named: one result, not two.
        neuron_seeds=[None if seed == how.seed else seed for seed in seeds] or [None],
    )
    if global_widths:
        points = [_across_layers(point) for point in points]
    places = dict(results_dir=results_dir, save_samples=save_samples, dry_run=dry_run)
    return evaluate_points(model, tasks, points, how, **places)


def evaluate_points(
    model: str,
    tasks: str | Sequence[str],
    points: Iterable[Point],
    settings: Settings,
    *,
    results_dir: str,
    save_samples: bool | Collection[str] = False,
    dry_run: bool = False,
) -> pd.DataFrame:
    """The same for exactly these models: a part of a sweep, for one job of many.

    Parameters
    ----------
    points : iterable of Point
        In any order.
    model, tasks, settings, results_dir, save_samples, dry_run
        As for `evaluate`.

    Raises
    ------
    WidthPruneError
        As `evaluate`.
    """
    if settings.chat_template:
        check_chat_template(model)
    # lm-eval and its libraries log and draw bars at every step; the one bar below is enough.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        sweep = _Sweep(
            model, find_benchmarks(tasks, scratch), in_order(points), settings, results_dir, save_samples
        )
        todo = sweep.todo()
        if todo or dry_run:
            check_ready(model)
            check_variants(model, {sweep.asked[i][0] for i in todo}, settings.text)
            check_results_dir(results_dir, [run_path(results_dir, sweep.identities[i]) for i in todo])
        if dry_run:
            check_data(sweep.benchmarks)
        else:
            sweep.measure(todo, scratch)
    table = sweep.table()
    table.attrs |= {
        "missing": sweep.missing,
        "asked": len(sweep.asked),
        "stored": len(sweep.asked) - len(todo),
    }
    return table


def in_order(points: Iterable[Point]) -> list[Point]:
    """The unpruned model first, then draw by draw, the widest first: one copy of the weights can be narrowed so."""
    points = list(points)
    draws = list(dict.fromkeys((point.criterion, point.neuron_seed) for point in points))
    return sorted(
        points,
        key=lambda p: (
            p.criterion != "none",
            draws.index((p.criterion, p.neuron_seed)),
            -p.intermediate_size,
        ),
    )


def _across_layers(point: Point) -> Point:
    if point.criterion == "none":
        return point
    check_across_layers(find_criterion(point.criterion))
    return replace(point, criterion=point.criterion + GLOBAL)


@dataclass
class _Sweep:
    """The runs of a sweep: what is asked, what is there, what cannot be measured."""

    model: str
    benchmarks: list[Benchmark]
    points: list[Point]
    settings: Settings
    results_dir: str
    save_samples: bool | Collection[str]
    missing: dict[str, str] = field(init=False)  # task -> why it cannot be measured
    asked: list[tuple[Point, Benchmark]] = field(init=False)
    identities: list[dict] = field(init=False)  # of each asked: the settings of its results file
    runs: list[dict | None] = field(init=False)  # of each asked: its result, where it is there

    def __post_init__(self):
        self.missing = {b.task: b.missing for b in self.benchmarks if b.missing}
        self.asked = [(point, b) for point in self.points for b in self.benchmarks if not b.missing]
        self.identities = self.settings.identities(self.model, self.asked)
        self.runs = [find_run(self.results_dir, identity) for identity in self.identities]

    def todo(self) -> list[int]:
        """Numbers of the runs that have no result, or not the answers that are wanted beside it."""
        return [
            i
            for i, (run, identity) in enumerate(zip(self.runs, self.identities, strict=True))
            if not run or (self._saves(i) and not samples_path(self.results_dir, identity).exists())
        ]

    def measure(self, todo: Sequence[int], scratch: str) -> None:
        """Measure these runs, and write each as soon as it is there."""
        readers = Readers(self.model, self.settings, self.asked[todo[-1]][0] if todo else None, scratch)
        bar = tqdm(todo, desc=f"evaluating {self.model}", unit="run", disable=not todo)
        for i in bar:
            point, benchmark = self.asked[i]
            if benchmark.task in self.missing:
                continue
            bar.set_postfix_str(f"{benchmark.task} at {point.pruning_pct:g}% {point.criterion}")
            # A benchmark that cannot be measured is left out; a model that cannot be made ends the sweep.
            with self._left_out(benchmark):
                _ = benchmark.loaded  # before the model, which takes longer
            if benchmark.task not in self.missing:
                self._measure_one(i, readers.at(point), readers)

    @contextmanager
    def _left_out(self, benchmark: Benchmark):
        try:
            yield
        except WidthPruneError as error:
            self.missing[benchmark.task] = str(error)

    def _measure_one(self, i: int, lm, readers: Readers) -> None:
        benchmark, how, metrics = self.asked[i][1], self.settings, []
        with self._left_out(benchmark), record(how.device) as provenance:
            metrics, answered = measure(lm, benchmark, how.limit, how.seed, how.chat_template)
        if metrics:
            # Before the result, which says that all is there.
            if self._saves(i):
                write_samples(self.results_dir, self.identities[i], answered)
            write_run(self.results_dir, self.identities[i], metrics, provenance | readers.provenance())
            self.runs[i] = find_run(self.results_dir, self.identities[i])

    def _saves(self, i: int) -> bool:
        wanted = self.save_samples
        return wanted if isinstance(wanted, bool) else self.asked[i][1].task in wanted

    def table(self) -> pd.DataFrame:
        """Every run that is there, as tidy rows."""
        return tidy(pd.DataFrame([row for run in self.runs if run is not None for row in run_rows(run)]))
