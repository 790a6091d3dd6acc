"""One supplier of pruned models for every sweep, whatever is measured on them."""

from torch import Tensor, nn

from ..calibration import Calibration, calibrate
from ..criteria import Criterion, criterion_of
from ..mlps import find_mlps
from ..models.arithmetic import compute_in
from ..models.loading import load_model, stored_format
from ..scores import check_output, kept_indices, score_model
from ..variants.prune import prune_model
from .grid import Point


class PrunedModels:
    """The models of a sweep, each made when it is asked for, from one copy of the weights.

    Give it the points in the order of the sweep: criterion by criterion, the widest first. Under the
    criterion of ``final``, the last point, that copy itself is narrowed: each width keeps some of the
    neurons of the one before, and nothing later needs the rest. A sweep under one criterion so needs the
    memory of one model.

    Parameters
    ----------
    name, dtype, device
        As for `load_model`; the model is loaded with the first point.
    compute_dtype : str
        As for `widthprune.models.arithmetic.compute_in`.
    seed : int
        Draws neurons where the point names no draw.
    calibration : Calibration, optional
        For criteria that look at data; default the package's own text.
    final : Point, optional
        The last point of the sweep. Without it the whole model is kept to the end.
    """

    def __init__(
        self,
        name: str,
        *,
        dtype="auto",
        device="cpu",
        compute_dtype: str = "auto",
        seed: int = 0,
        calibration: Calibration | None = None,
        final: Point | None = None,
    ):
        self._load = lambda: load_model(name, dtype=dtype, device=device)
        self._name, self._compute_dtype = name, compute_dtype
        self._loaded, self._seed, self._final = None, seed, final
        self._calibration, self._activations = calibration, {}
        self._scores = {}  # of the criterion and draw in hand
        self._cut_for = None  # the criterion and draw for which the copy itself was narrowed

    def at(self, point: Point) -> tuple[nn.Module, object]:
        """The model of one point, and the tokenizer (None where the model has none)."""
        if self._loaded is None:
            model, tokenizer = self._load()
            # Of all, or the unpruned model would be measured before pruning refuses.
            for parameter, weight in model.named_parameters():
                check_output(parameter, weight)
            self._weights = stored_format(self._name)  # once: of a hub id it asks the hub
            self._loaded = compute_in(model, self._compute_dtype), tokenizer
        if self._cut_for not in (None, _draw(point)):
            raise RuntimeError(
                f"{point} comes after the last criterion's points, for which the weights were cut"
            )
        model, tokenizer = self._loaded
        if point.criterion == "none":
            return model, tokenizer
        criterion = criterion_of(point.criterion)
        scores = self._score(point, criterion)
        narrow = self._narrows(point, criterion)
        pruned = prune_model(
            model,
            criterion.name,
            size=point.intermediate_size,
            scores=scores,
            activations=self._look(criterion),
            global_widths=point.global_widths,
            inplace=narrow,
        )
        if narrow:
            mlps = find_mlps(pruned)
            kept = {m.name: scores[m.name].gather(-1, kept_indices(scores[m.name], m.size)) for m in mlps}
            self._scores, self._cut_for = {_draw(point): kept}, _draw(point)
        return pruned, tokenizer

    def precision(self) -> dict[str, str]:
        """How the weights were stored, and what the model computes in, for a result's provenance."""
        computed = str(self._loaded[0].dtype).removeprefix("torch.")
        return {"weights_format": self._weights, "compute_dtype": computed}

    def _score(self, point: Point, criterion: Criterion) -> dict[str, Tensor]:
        if _draw(point) not in self._scores:
            seed = self._seed if point.neuron_seed is None else point.neuron_seed
            looks = self._look(criterion)
            self._scores = {
                _draw(point): score_model(self._loaded[0], criterion.name, seed=seed, activations=looks)
            }
        return self._scores[_draw(point)]

    def _narrows(self, point: Point, criterion: Criterion) -> bool:
        """Whether the copy of the weights itself may be cut: nothing later needs what goes."""
        last = self._final is not None and _draw(point) == _draw(self._final)
        return last and not criterion.needs_text and not point.global_widths

    def _look(self, criterion: Criterion):
        """The activations on the calibration text, made once for all criteria and widths; None if unneeded."""
        if not criterion.needs_text:
            return None
        gradients = criterion.needs_gradients
        if gradients not in self._activations:
            self._activations[gradients] = calibrate(*self._loaded, self._calibration, gradients=gradients)
        return self._activations[gradients]


def _draw(point: Point) -> tuple[str, int | None]:
    return point.criterion, point.neuron_seed
