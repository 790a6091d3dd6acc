import torch
from torch import nn

from widthprune.slicing import kept_indices, same_neurons, slice_columns, slice_rows


def test_kept_indices_by_hand():
    assert kept_indices(torch.tensor([0.1, 0.9, 0.5, 0.7]), 2).tolist() == [1, 3]


def test_ties_keep_the_lower_index():
    assert kept_indices(torch.tensor([1.0, 2.0, 1.0, 1.0, 2.0]), 3).tolist() == [0, 1, 4]
    assert kept_indices(torch.ones(1000), 500).tolist() == list(range(500))


def test_slice_rows_takes_weight_bias_and_declared_size():
    linear = nn.Linear(3, 4)
    weight, bias = linear.weight.clone(), linear.bias.clone()
    slice_rows(linear, torch.tensor([1, 3]))
    assert linear.out_features == 2 and linear.in_features == 3
    assert torch.equal(linear.weight, weight[[1, 3]]) and torch.equal(linear.bias, bias[[1, 3]])


def test_slice_columns_leaves_the_bias():
    linear = nn.Linear(4, 3)
    weight, bias = linear.weight.clone(), linear.bias.clone()
    slice_columns(linear, torch.tensor([0, 2]))
    assert linear.in_features == 2 and linear.out_features == 3
    assert torch.equal(linear.weight, weight[:, [0, 2]]) and torch.equal(linear.bias, bias)


def test_the_callers_parameter_is_not_written():
    linear = nn.Linear(4, 3)
    original = linear.weight
    before = original.clone()
    slice_rows(linear, torch.tensor([0]))
    assert torch.equal(original, before) and linear.weight is not original
    assert linear.weight.requires_grad


def test_agreement_of_two_criteria_by_hand():
    ones = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([1.0, 2.0, 2.0, 4.0])}
    twos = {"a": torch.tensor([1.0, 3.0, 2.0, 4.0]), "b": torch.tensor([4.0, 3.0, 2.0, 1.0])}
    # Of 2 + 2 neurons removed, layer a shares the first and layer b the third, where a tie decides.
    assert same_neurons(ones, twos, 50) == {
        "pruning_pct": 50, "shared": 0.5, "by_chance": 0.5, "ties": 1, "layers": 2
    }  # fmt: skip
    assert same_neurons(ones, ones, 25)["shared"] == 1
