"""Criteria that look at data: pure functions from an MLP's activation sums to one score per neuron.

Notation: x_tj is the activation of neuron j at token t, act(gate) * up, the input of ``down_proj``;
W is the weight of ``down_proj``, (d_model, d_ff), and W_j its column j. `calibrate` makes the sums.
All statistics are taken on the unpruned model in one pass over the text; where a published method
re-runs pruned layers, or prunes attention too, ours does not. Each docstring says what else differs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .calibration import Activations
from .criteria import find_criterion
from .errors import WidthPruneError
from .weight_criteria import apply_formula, peak_to_peak


def activation_norm(x: Activations, inputs: Sequence[Tensor], down: Tensor) -> Tensor:
    """Activation norm: ||x_j||_2 = sqrt(sum_t x_tj^2).

    Two published methods rank the neurons of a layer like this. CFSP (arXiv 2409.13199): the released
    default divides |W_kj| ||x_j|| by its column's sum, adds two more matrices normalized the same way, and
    averages over k, so that every neuron gets 3 / d_model times ||x_j||. SliceGPT (arXiv 2401.15024): the
    diagonal of the activations' second moment X^T X is ||x_j||^2; SliceGPT itself rotates, we only select.
    """
    return x.squares.sqrt()


def amp(x: Activations, inputs: Sequence[Tensor], down: Tensor) -> Tensor:
    """AMP (arXiv 2504.21174): the mean of |x_tj| over tokens.

    As in the released code for MLPs, except that the code averages prompts with equal weight and we
    average tokens; AMP prunes attention heads as well.
    """
    return x.absolute / x.tokens


def wanda_sp(x: Activations, inputs: Sequence[Tensor], down: Tensor) -> Tensor:
    """Wanda-sp: ||W_j||_1 ||x_j||_2, the structured form of Wanda (arXiv 2306.11695).

    Wanda scores a weight by |W_kj| ||x_j||_2; Wanda-sp, a baseline in FLAP's code, averages that over k,
    and a sum over k ranks alike. That code scores each layer on the outputs of pruned earlier layers.
    """
    return _column_norms(down, 1) * activation_norm(x, inputs, down)


def flap(x: Activations, inputs: Sequence[Tensor], down: Tensor) -> Tensor:
    """FLAP (arXiv 2312.11983), fluctuation: Var_t(x_tj) ||W_j||_2^2, with the variance over tokens.

    The released metric WIFV; its running variance starts at the second sequence, ours at the first token.
    FLAP compares standardized scores across layers; that is a choice of widths, not of this score. Its
    bias compensation is the criterion FLAP-BIAS: the same scores, and `prune_model` adds the removed
    neurons' mean contribution, the sum of W_j mean_t(x_tj), to the bias of ``down_proj``.
    """
    return x.variance * _column_norms(down, 2).square()


def minitron(x: Activations, inputs: Sequence[Tensor], down: Tensor) -> Tensor:
    """Minitron (arXiv 2407.14679): over sequences the L2 norm, over a sequence's tokens the mean of |x_tj|.

    The paper writes L2(batch, mean(sequence)); its released code takes the mean of absolute values. It
    reads the output of the first linear layer, and for gated MLPs the code reads x, as we do.
    """
    return x.squared_means.sqrt()


def taylor(x: Activations, inputs: Sequence[Tensor], down: Tensor) -> Tensor:
    """First-order Taylor: |sum_t x_tj dL/dx_tj|, L the summed negative log-likelihood of the text.

    What setting x_j to zero changes L by, to first order. It equals |sum_k W_kj dL/dW_kj|, LLM-Pruner's
    vector-wise importance (arXiv 2305.11627, section 3.2) of the ``down_proj`` column, and needs no
    gradient of a weight. LLM-Pruner adds the terms of the gate and up rows, and defaults to element-wise
    importance, sum_k |W_kj dL/dW_kj|, which we leave out: it needs gradients as large as the weights.
    """
    return x.saliency.abs()


def ppm_times_norm(x: Activations, inputs: Sequence[Tensor], down: Tensor) -> Tensor:
    """Hybrid of PPM and activations: (sum over gate, up, down of PPM_j / max_i PPM_i) ||x_j||_2.

    The data-driven mode of optipfair, the released library of the reproduced paper's author (arXiv
    2512.22671). There the norm of each batch is added, so that the batch size matters; here it is the
    norm over all tokens.
    """
    peaks = [peak_to_peak(weight).cpu() for weight in (*inputs, down.T)]
    relative = sum(peak / (peak.max() + 1e-8) for peak in peaks)
    return relative * activation_norm(x, inputs, down)


def _column_norms(weight: Tensor, p: int) -> Tensor:
    # The sums of `calibrate` lie on the CPU, in float64.
    precise = torch.promote_types(weight.dtype, torch.float32)
    return torch.linalg.vector_norm(weight, p, dim=0, dtype=precise).double().cpu()


def score_activations(
    activations: Activations, inputs: Sequence[Tensor], down: Tensor, criterion: str
) -> Tensor:
    """Importance of every neuron of one MLP from what it did on text.

    Parameters
    ----------
    activations : Activations
        Sums of this MLP, from `calibrate`.
    inputs : sequence of Tensor, shape (d_ff, d_model)
        Weights of the input projections, row j belonging to neuron j: gate and up, or up alone.
    down : Tensor, shape (d_model, d_ff)
        Weight of ``down_proj``.
    criterion : str
        One of ``CALIBRATED``.

    Returns
    -------
    Tensor, shape (d_ff,), float32
        The higher, the more important.

    Raises
    ------
    WidthPruneError
        If the criterion is unknown, the sums lack gradients that it needs,
        or a score is not finite.
    """
    record = find_criterion(criterion, needs_text=True)
    if record.needs_gradients and activations.saliency is None:
        raise WidthPruneError(f"criterion {record.name} needs gradients: calibrate(..., gradients=True)")
    scores = apply_formula(record, down.shape[1], activations, inputs, down).float()
    if not bool(scores.isfinite().all()):
        raise WidthPruneError(f"scores under {record.name} are not finite: load the model in float32")
    return scores
