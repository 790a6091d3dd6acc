"""Width pruning of GLU MLPs: a reproduction of arXiv 2512.22671."""

import importlib

from .criteria import CALIBRATED, CRITERIA
from .errors import WidthPruneError
from .sizes import expansion_ratio, kept_size

__version__ = "0.1.0"

__all__ = [
    "CALIBRATED",
    "CRITERIA",
    "Calibration",
    "WidthPruneError",
    "calibrate",
    "expansion_ratio",
    "kept_size",
    "load_model",
    "load_results",
    "prune_checkpoint",
    "prune_model",
    "published",
    "score_model",
    "score_neurons",
]

# Imported when they are first asked for: they need torch, which takes longer to import than a plan to make, or pandas,
# which takes longer than to say what is wrong with an argument.
_LATER = {
    "Calibration": "calibration",
    "calibrate": "calibration",
    "load_model": "models.loading",
    "load_results": "report.results",
    "prune_checkpoint": "checkpoints.stream",
    "prune_model": "variants.prune",
    "published": "report.published",
    "score_model": "scores",
    "score_neurons": "weight_criteria",
}


def __getattr__(name):
    if name not in _LATER:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
