import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from widthprune import CRITERIA, WidthPruneError, score_neurons
from widthprune.weight_criteria import _extremes, random_order

GATE = torch.tensor([[1.0, -3.0, 0.0], [2.0, 2.0, 2.0]])
UP = torch.tensor([[0.5, 0.5, -1.0], [-4.0, 1.0, 0.0]])

# By hand, from the definitions.
BY_HAND = {
    "MAW": [3 + 1, 2 + 4],
    "PPM": [(1 + 3) + (0.5 + 1), (2 + 2) + (1 + 4)],
    "VOW": [13 / 3 + 0.75, 0 + 7],
    "PON": [4 * 2, 6 * 5],
    "L2": [10**0.5 + 1.5**0.5, 12**0.5 + 17**0.5],
    "PPM-REVERSED": [-5.5, -9.0],
    "PPM-GATE": [1 + 3, 2 + 2],
    "PPM-UP": [0.5 + 1, 1 + 4],
}


BY_HAND_UNGATED = {"MAW": [3.0, 2.0], "PPM": [4.0, 4.0], "VOW": [13 / 3, 0.0], "PON": [4.0, 6.0]}
BY_HAND_UNGATED |= {"PPM-GATE": [4.0, 4.0], "PPM-UP": [4.0, 4.0], "PPM-REVERSED": [-4.0, -4.0]}


@pytest.mark.parametrize("criterion", BY_HAND)
def test_scores_by_hand(criterion):
    torch.testing.assert_close(
        score_neurons(GATE, UP, criterion), torch.tensor(BY_HAND[criterion], dtype=torch.float32)
    )


def test_default_is_ppm():
    assert score_neurons(GATE, UP).tolist() == BY_HAND["PPM"]


def test_maw_and_ppm_rank_differently():
    # One large weight against a pair of large weights of opposite sign.
    one_sided = torch.tensor([[3.0, 0.0], [2.0, -2.0]])
    assert score_neurons(one_sided, one_sided, "MAW").argmax() == 0
    assert score_neurons(one_sided, one_sided, "PPM").argmax() == 1


def test_ppm_of_an_all_positive_row_adds_its_minimum():
    # max + |min|, as the paper's code has it, is not max - min where a row keeps one sign.
    positive = torch.tensor([[5.0, 2.0]])
    assert score_neurons(positive, positive, "PPM").item() == 14.0


@pytest.mark.parametrize("criterion", CRITERIA)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), dtype=st.sampled_from([torch.bfloat16, torch.float16, torch.float64]))
def test_scores_are_float32_whatever_the_dtype(criterion, seed, dtype):
    gate, up = torch.randn(2, 17, 9, generator=torch.Generator().manual_seed(seed)).to(dtype)
    scores = score_neurons(gate, up, criterion)
    assert scores.dtype == torch.float32 and scores.shape == (17,)
    torch.testing.assert_close(scores, score_neurons(gate.float(), up.float(), criterion))


def test_float16_scores_do_not_overflow():
    big = torch.full((2, 8), 60000.0, dtype=torch.float16)
    for criterion in CRITERIA:
        assert score_neurons(big, big, criterion).isfinite().all()


def test_random_is_a_seeded_permutation():
    weight = torch.zeros(50, 2)
    first, second = random_order(weight, seed=(1, 0)), random_order(weight, seed=(1, 1))
    assert sorted(first.tolist()) == list(range(50))
    assert torch.equal(first, random_order(weight, seed=(1, 0)))
    assert not torch.equal(first, second)


def test_random_ignores_the_weights():
    weights = torch.randn(2, 12, 4)
    assert torch.equal(
        score_neurons(weights[0], weights[1], "RANDOM", seed=3),
        score_neurons(GATE.new_ones(12, 4), UP.new_zeros(12, 4), "RANDOM", seed=3),
    )


def test_unknown_criterion():
    with pytest.raises(WidthPruneError, match="criterion must be one of PPM, MAW, .*, got 'SUM'"):
        score_neurons(GATE, UP, "SUM")


def test_shapes_that_differ():
    with pytest.raises(WidthPruneError, match=r"got \(2, 3\) and \(1, 3\)"):
        score_neurons(GATE, UP[:1])


@pytest.mark.parametrize("projection", ["gate", "up"])
@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(criterion, bad, projection):
    weights = {"gate": GATE.clone(), "up": UP.clone()}
    weights[projection][1, 1] = bad
    with pytest.raises(WidthPruneError, match="must be finite"):
        score_neurons(**weights, criterion=criterion)


def test_integer_weights():
    with pytest.raises(WidthPruneError, match="torch.int8"):
        score_neurons(GATE.to(torch.int8), UP.to(torch.int8))


@settings(max_examples=200, deadline=None)
@given(
    dtype=st.sampled_from([torch.bfloat16, torch.float16]),
    bits=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=12, max_size=12),
)
def test_extremes_of_16_bit_rows_are_those_of_torch(dtype, bits):
    """Any bits: signed zeros, infinities, NaN, rows of one sign."""
    weight = torch.tensor(bits, dtype=torch.int16).view(dtype).reshape(4, 3)
    largest, smallest = _extremes(weight)
    finite = weight.isfinite().all(dim=1)
    assert torch.equal(largest[finite], weight[finite].amax(dim=1).float())
    assert torch.equal(smallest[finite], weight[finite].amin(dim=1).float())
    # What is not finite reaches the scores, where it is refused.
    assert not (largest[~finite] + smallest[~finite].abs()).isfinite().any()


def test_without_a_gate_a_criterion_has_one_term():
    for name, scores in BY_HAND_UNGATED.items():
        torch.testing.assert_close(score_neurons(GATE, None, name), torch.tensor(scores))
