"""From scores to the neurons that stay."""

import torch

from widthprune.scores import kept_indices


def test_kept_indices_by_hand():
    assert kept_indices(torch.tensor([0.1, 0.9, 0.5, 0.7]), 2).tolist() == [1, 3]


def test_ties_keep_the_lower_index():
    assert kept_indices(torch.tensor([1.0, 2.0, 1.0, 1.0, 2.0]), 3).tolist() == [0, 1, 4]
    assert kept_indices(torch.ones(1000), 500).tolist() == list(range(500))


def test_kept_indices_of_experts():
    assert kept_indices(torch.tensor([[1.0, 3.0, 2.0], [3.0, 1.0, 2.0]]), 2).tolist() == [[1, 2], [0, 2]]
