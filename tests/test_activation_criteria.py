"""Criteria that look at data: each formula by hand, and against whoever published it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optipfair.pruning.mlp_glu import compute_neuron_pair_importance_maw_hybrid

from widthprune import CALIBRATED, WidthPruneError
from widthprune.activation_criteria import score_activations
from widthprune.calibration import Activations
from widthprune.weight_criteria import ppm

# Two sequences of two and one token, two neurons; W is (d_model, d_ff) = (2, 2).
SEQUENCES = [torch.tensor([[1.0, -2], [3, 0]]), torch.tensor([[-1.0, 5]])]
GRADIENTS = [torch.tensor([[1.0, 1], [-1, 1]]), torch.tensor([[2.0, 0.5]])]
DOWN = torch.tensor([[1.0, -2], [-3, 0.5]])
GATE, UP = torch.tensor([[1.0, -3], [2, 2]]), torch.tensor([[0.5, -1], [-4, 1]])

BY_HAND = {
    "ACT": [11**0.5, 29**0.5],
    "AMP": [5 / 3, 7 / 3],
    "WANDA-SP": [4 * 11**0.5, 2.5 * 29**0.5],
    "FLAP": [4 * 10, 13 * 4.25],
    "FLAP-BIAS": [4 * 10, 13 * 4.25],
    "MINITRON": [5**0.5, 26**0.5],
    "TAYLOR": [abs(1 - 3 - 2), abs(-2 + 0 + 2.5)],
    "PPM-ACT": [11**0.5 * (1 + 1.5 / 5 + 1), 29**0.5 * (1 + 1 + 2.5 / 4)],
}


def sums_of(sequences, gradients=None):
    sums = Activations.zeros(sequences[0].shape[1], gradients is not None)
    for i, x in enumerate(sequences):
        sums.add(x[None])
        if gradients is not None:
            sums.add_gradient(x[None], gradients[i][None])
    return sums


def random_mlp(seed, d_ff=24, d_model=10):
    """(sequences, [gate, up], down) with neurons of different scales."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.rand(d_ff, generator=generator) + 0.1
    sequences = [torch.randn(n, d_ff, generator=generator) * scales + 0.3 for n in (5, 9, 2)]
    gate, up, down = (torch.randn(d_ff, d_model, generator=generator) for _ in range(3))
    return sequences, [gate, up], down.T


@pytest.mark.parametrize("criterion", BY_HAND)
def test_scores_by_hand(criterion):
    scores = score_activations(sums_of(SEQUENCES, GRADIENTS), [GATE, UP], DOWN, criterion)
    torch.testing.assert_close(scores, torch.tensor(BY_HAND[criterion]))


def test_every_criterion_is_checked_by_hand():
    assert set(BY_HAND) == set(CALIBRATED)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_cfsp_and_the_diagonal_of_the_covariance_rank_as_the_activation_norm(seed):
    sequences, (gate, up), down = random_mlp(seed)
    x = torch.cat(sequences)
    norm = x.norm(dim=0)
    # CFSP's released default: three matrices, each divided by the sums of its columns, times the norm.
    columns = [(down.abs() * norm), up.T.abs(), gate.T.abs()]
    cfsp = (sum(c / c.sum(dim=0) for c in columns) * norm).mean(dim=0)
    diagonal = (x.T @ x).diagonal()
    ours = score_activations(sums_of(sequences), [gate, up], down, "ACT")
    assert ours.argsort().tolist() == cfsp.argsort().tolist() == diagonal.argsort().tolist()


def test_wanda_sp_ranks_as_the_mean_of_wandas_scores():
    sequences, inputs, down = random_mlp(1)
    wanda = down.abs() * torch.cat(sequences).norm(dim=0)
    ours = score_activations(sums_of(sequences), inputs, down, "WANDA-SP")
    torch.testing.assert_close(ours / len(down), wanda.mean(dim=0))


def test_flap_is_the_variance_of_what_a_neuron_adds_to_the_output():
    sequences, inputs, down = random_mlp(2)
    x = torch.cat(sequences)
    # One neuron's contribution to the residual stream, (tokens, d_model): its variances, summed.
    added = torch.stack([(x[:, j, None] * down[:, j]).var(dim=0).sum() for j in range(x.shape[1])])
    torch.testing.assert_close(score_activations(sums_of(sequences), inputs, down, "FLAP"), added)


def test_hybrid_is_optipfairs():
    sequences, (gate, up), down = random_mlp(3)
    theirs = compute_neuron_pair_importance_maw_hybrid(gate, up, down, torch.cat(sequences).norm(dim=0))
    torch.testing.assert_close(score_activations(sums_of(sequences), [gate, up], down, "PPM-ACT"), theirs)


def test_hybrid_of_an_mlp_without_a_gate_has_one_input():
    sequences, (_, up), down = random_mlp(4)
    scores = score_activations(sums_of(sequences), [up], down, "PPM-ACT")
    peaks = [ppm(up) / ppm(up).max(), ppm(down.T) / ppm(down.T).max()]
    torch.testing.assert_close(scores, sum(peaks) * torch.cat(sequences).norm(dim=0))


@pytest.mark.parametrize("criterion", CALIBRATED)
def test_order_of_sequences_and_dtype_of_weights(criterion):
    sequences, inputs, down = random_mlp(5)
    gradients = [torch.randn(x.shape, generator=torch.Generator().manual_seed(len(x))) for x in sequences]
    first = score_activations(sums_of(sequences, gradients), inputs, down, criterion)
    halves = [w.bfloat16() for w in inputs], down.bfloat16()
    again = score_activations(sums_of(sequences[::-1], gradients[::-1]), *halves, criterion)
    whole = score_activations(
        sums_of(sequences, gradients), [w.float() for w in halves[0]], halves[1].float(), criterion
    )
    double = score_activations(
        sums_of(sequences, gradients), [w.double() for w in inputs], down.double(), criterion
    )
    assert first.dtype == again.dtype == double.dtype == torch.float32
    torch.testing.assert_close(again, whole)
    torch.testing.assert_close(double, first)


def test_criteria_differ():
    sequences, inputs, down = random_mlp(6, d_ff=200)
    gradients = [torch.randn_like(x) for x in sequences]
    sums = sums_of(sequences, gradients)
    orders = {
        name: str(score_activations(sums, inputs, down, name).argsort().tolist()) for name in CALIBRATED
    }
    assert len(set(orders.values())) == len(CALIBRATED) - 1  # FLAP-BIAS removes what FLAP removes


# Bad input.


def refused(match, *arguments):
    with pytest.raises(WidthPruneError, match=match):
        score_activations(*arguments)


def test_bad_input():
    sums = sums_of(SEQUENCES)
    refused("criterion must be one of ACT, AMP, .*, got 'PPM'", sums, [GATE, UP], DOWN, "PPM")
    refused(r"TAYLOR needs gradients: calibrate\(..., gradients=True\)", sums, [GATE, UP], DOWN, "TAYLOR")
    infinite = DOWN.clone()
    infinite[0, 0] = torch.inf
    refused("scores under WANDA-SP are not finite", sums, [GATE, UP], infinite, "WANDA-SP")
