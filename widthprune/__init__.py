"""Width pruning of GLU MLPs: a reproduction of arXiv 2512.22671."""

from .activation_criteria import CALIBRATED
from .calibration import Calibration, calibrate
from .criteria import CRITERIA, score_neurons
from .errors import WidthPruneError
from .models import load_model
from .pruning import prune_model, score_model
from .published import published
from .results import load_results
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
    "prune_model",
    "published",
    "score_model",
    "score_neurons",
]
