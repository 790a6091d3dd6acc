"""The settings of a sweep: what identifies a result beside its model, width and benchmark, and how it is computed."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from ..calibration import Calibration
from ..commands.options import COUNT, SEED, TOKENS
from ..criteria import criterion_of
from ..errors import WidthPruneError
from ..models.arithmetic import check_compute_dtype
from ..models.loading import check_placement, model_revision
from .grid import Point
from .readiness import check_numbers
from .suites import Benchmark

BACKENDS = ("hf", "stock", "vllm")


@dataclass(frozen=True)
class Settings:
    """How models are measured. All but the last three are part of a result's identity.

    Attributes
    ----------
    limit : int, optional
        Items per task, a random subset drawn with ``seed``: the same items at every width. A group
        such as MMLU spreads its limit evenly over its tasks, at least one each. None takes all.
    seed : int
        Draws the subset, the neurons of ``RANDOM``, and calibration text.
    dtype : str
        As for `load_model`. Log-probabilities are taken in float32 whatever the dtype.
    max_length : int, optional
        Longest text in tokens, default the model's own: shortening it raises perplexities.
    chat_template : bool
        Put each prompt as a user's turn into the tokenizer's chat template, and each example before it
        as a turn and its answer. The code released with the paper does not.
    backend : str
        "hf" reads each prefix once, or by lm-eval's own class what cannot be read so (`engine.choice` says so in
        a line; the provenance names the engine). "stock" is lm-eval's own class for all. "vllm" on a machine
        that has it: each pruned model is then saved to a temporary directory and read by lm-eval's vLLM class.
    calibration : Calibration, optional
        What the criteria that look at data look at; default the package's own text. Part of a result's
        identity under those criteria, and of no other's.
    device : str
        As for `load_model`.
    compute_dtype : str
        The dtype of the arithmetic: see `widthprune.models.arithmetic.compute_in`. Part of a result's
        provenance: a result is found again whichever arithmetic made it.
    batch_size : int
        Rows at once where lm-eval's own code runs; the numbers do not depend on it beyond rounding.

    Raises
    ------
    WidthPruneError
        When it is made, if a value is out of range or this machine lacks the device or the backend.
    """

    limit: int | None = None
    seed: int = 0
    dtype: str = "auto"
    max_length: int | None = None
    chat_template: bool = False
    backend: str = "hf"
    calibration: Calibration | None = None
    device: str = "cpu"
    compute_dtype: str = "auto"
    batch_size: int = 8

    def __post_init__(self):
        counts = {"limit": self.limit, "batch_size": self.batch_size}
        check_numbers({COUNT: counts, TOKENS: {"max_length": self.max_length}})
        SEED.check("seed", self.seed)
        check_placement(self.dtype, self.device)
        if self.backend not in BACKENDS:
            raise WidthPruneError(f"backend must be hf, stock or vllm, got {self.backend!r}")
        if self.backend == "vllm" and find_spec("vllm") is None:
            raise WidthPruneError("backend vllm needs the package vllm: pip install vllm, or use backend hf")
        check_compute_dtype(self.compute_dtype)

    @property
    def text(self) -> Calibration:
        """What the criteria that look at data look at."""
        return self.calibration or Calibration(seed=self.seed)

    def identities(self, model: str, asked: Iterable[tuple[Point, Benchmark]]) -> list[dict]:
        """What identifies each of these runs: the ``settings`` of its results file."""
        shared = {"model": model, "revision": model_revision(model), "limit": self.limit, "seed": self.seed}
        shared |= {"dtype": str(self.dtype).removeprefix("torch."), "max_length": self.max_length}
        # Named only where they differ from what every earlier result was made with.
        if self.backend != "hf":
            shared["backend"] = self.backend
        if self.chat_template:
            shared["chat_template"] = True
        text, found = None, []
        for point, benchmark in asked:
            looked_at = {}
            if (criterion := criterion_of(point.criterion)) and criterion.needs_text:
                looked_at = text = text or self.text.identity()
            found.append(shared | _of_point(point) | _of_benchmark(benchmark) | looked_at)
        return found


def _of_point(point: Point) -> dict:
    return {name: value for name, value in vars(point).items() if value is not None}


def _of_benchmark(benchmark: Benchmark) -> dict:
    return {
        "task": benchmark.task,
        "num_fewshot": benchmark.num_fewshot,
        "task_version": benchmark.version,
        "data": benchmark.data,
    }
