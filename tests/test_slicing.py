from dataclasses import replace

import pytest
import torch

from widthprune.layouts import Part
from widthprune.slicing import kept_indices, neuron_rows, same_neurons, slice_part, slice_stacked


def test_kept_indices_by_hand():
    assert kept_indices(torch.tensor([0.1, 0.9, 0.5, 0.7]), 2).tolist() == [1, 3]


def test_ties_keep_the_lower_index():
    assert kept_indices(torch.tensor([1.0, 2.0, 1.0, 1.0, 2.0]), 3).tolist() == [0, 1, 4]
    assert kept_indices(torch.ones(1000), 500).tolist() == list(range(500))


def test_kept_indices_of_experts():
    assert kept_indices(torch.tensor([[1.0, 3.0, 2.0], [3.0, 1.0, 2.0]]), 2).tolist() == [[1, 2], [0, 2]]


# Neuron j has the entries 10 j (gate) and 10 j + 1 (up), or j alone, in every layout.
SINGLE, BOTH = torch.tensor([0, 10, 20]), torch.tensor([0, 10, 20, 1, 11, 21])
MIXED = torch.tensor([0, 1, 10, 11, 20, 21])
STORED = {
    "rows": (Part("w", "input", 0), SINGLE[:, None], [0, 20]),
    "columns": (Part("w", "output", 1), SINGLE[None], [0, 20]),
    "bias": (Part("b", "bias", 0), SINGLE, [0, 20]),
    "halves": (Part("w", "input", 0, "halves"), BOTH[:, None], [0, 20, 1, 21]),
    "transposed halves": (Part("w", "input", 1, "halves"), BOTH[None], [0, 20, 1, 21]),
    "alternating": (Part("w", "input", 0, "alternating"), MIXED[:, None], [0, 1, 20, 21]),
    "alternating bias": (Part("b", "bias", 0, "alternating"), MIXED, [0, 1, 20, 21]),
}


@pytest.mark.parametrize("case", STORED)
def test_slice_part_by_hand(case):
    part, tensor, expected = STORED[case]
    before = tensor.clone()
    sliced = slice_part(tensor, part, torch.tensor([0, 2]))
    assert sliced.flatten().tolist() == expected and sliced.is_contiguous()
    assert sliced.shape == part.pruned_shape(tensor.shape, 2)
    assert torch.equal(tensor, before)


@pytest.mark.parametrize("case", [case for case in STORED if "bias" not in case and case != "columns"])
def test_rows_of_neurons_by_hand(case):
    part, tensor, _ = STORED[case]
    rows = [row.flatten().tolist() for row in neuron_rows(tensor, part)]
    assert rows == ([[0, 10, 20]] if case == "rows" else [[0, 10, 20], [1, 11, 21]])


def test_each_expert_keeps_its_own():
    part, tensor, _ = STORED["halves"]
    part = replace(part, stacked=True)
    both = torch.stack([tensor, tensor + 100])
    sliced = slice_stacked(both, part, torch.tensor([[0, 1], [1, 2]]))
    assert sliced[..., 0].tolist() == [[0, 10, 1, 11], [110, 120, 111, 121]]
    assert sliced.shape == part.pruned_shape(both.shape, 2)


def test_agreement_of_two_criteria_by_hand():
    ones = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([1.0, 2.0, 2.0, 4.0])}
    twos = {"a": torch.tensor([1.0, 3.0, 2.0, 4.0]), "b": torch.tensor([4.0, 3.0, 2.0, 1.0])}
    # Of 2 + 2 neurons removed, layer a shares the first and layer b the third, where a tie decides.
    assert same_neurons(ones, twos, 50) == {
        "pruning_pct": 50, "shared": 0.5, "by_chance": 0.5, "ties": 1, "layers": 2
    }  # fmt: skip
    assert same_neurons(ones, ones, 25)["shared"] == 1
