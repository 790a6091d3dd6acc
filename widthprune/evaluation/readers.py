"""lm-eval's models of a sweep, each made when it is first needed."""

import gc
import shutil
from pathlib import Path

from ..errors import WidthPruneError
from ..models.saving import saving
from ..models.templates import limited
from .grid import Point
from .pruned_models import PrunedModels
from .settings import Settings


class Readers:
    """The pruned models of a sweep as lm-eval reads them, one in memory at a time.

    Parameters
    ----------
    model : str
    settings : Settings
    final : Point or None
        The last point of the sweep: see `PrunedModels`.
    scratch : str or Path
        A directory for what vLLM reads from disk.
    """

    def __init__(self, model: str, settings: Settings, final: Point | None, scratch: str | Path):
        self._settings, self._scratch = settings, Path(scratch)
        vllm = settings.backend == "vllm"
        self._pruned = PrunedModels(
            model,
            dtype=settings.dtype,
            device=settings.device,
            # vLLM reads the pruned weights from disk, and chooses for itself.
            compute_dtype="weights" if vllm else settings.compute_dtype,
            seed=settings.seed,
            calibration=settings.text,
            final=final,
        )
        self._wrap = self._vllm if vllm else self._hf
        self._point, self._lm, self._engine = None, None, None

    def at(self, point: Point):
        """The lm-eval model of one point of the grid."""
        if self._point != point:
            # The last one goes first, or two pruned models would be in memory; with the limit below it is part of a cycle.
            self._point = self._lm = None
            gc.collect()
            model, tokenizer = self._pruned.at(point)
            if tokenizer is None:
                raise WidthPruneError("evaluating needs a tokenizer, and the model's directory holds none")
            lm = self._wrap(model, tokenizer)
            # The word that was tried before the work does not show what a long text sets going.
            lm.apply_chat_template = limited(lm.apply_chat_template)
            self._point, self._lm = point, lm
        return self._lm

    def provenance(self) -> dict:
        """Which arithmetic and which engine read the model in hand."""
        engine = "vllm" if self._settings.backend == "vllm" else self._lm.engine
        return self._pruned.precision() | {"engine": engine}

    def _hf(self, model, tokenizer):
        from .engine.choice import StockLM, check_stock, choose

        it = self._settings
        options = dict(batch_size=it.batch_size, max_length=it.max_length, softmax_dtype="float32")
        if self._engine is None:
            if it.backend == "stock":
                check_stock(model, tokenizer, **options)
            self._engine = StockLM if it.backend == "stock" else choose(model, tokenizer, **options)
        return self._engine(pretrained=model, tokenizer=tokenizer, **options)

    def _vllm(self, model, tokenizer):
        from lm_eval.api.registry import get_model

        saved, it = self._scratch / "model", self._settings
        shutil.rmtree(saved, ignore_errors=True)
        with saving(saved):
            model.save_pretrained(saved)
            tokenizer.save_pretrained(saved)
        return get_model("vllm")(
            pretrained=str(saved), dtype=it.dtype, batch_size="auto", max_model_len=it.max_length
        )
