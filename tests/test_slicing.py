from dataclasses import replace

import pytest
import torch

from widthprune.layouts import Part
from widthprune.slicing import neuron_rows, slice_part, slice_stacked

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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_columns_of_every_size_of_number(dtype):
    part, tensor, expected = STORED["columns"]
    sliced = slice_part(tensor.to(dtype), part, torch.tensor([0, 2]))
    assert sliced.dtype == dtype and sliced.flatten().tolist() == expected


@pytest.mark.parametrize("case", STORED)
def test_elsewhere_than_on_a_processor(case):
    part, tensor, expected = STORED[case]
    sliced = slice_part(tensor.to("meta"), part, torch.tensor([0, 2]))
    assert sliced.is_meta and sliced.numel() == len(expected) and sliced.is_contiguous()


def test_each_expert_keeps_its_own():
    part, tensor, _ = STORED["halves"]
    part = replace(part, stacked=True)
    experts = torch.stack([tensor, tensor + 100, tensor + 200])
    sliced = slice_stacked(experts, part, torch.tensor([[0, 1], [1, 2], [0, 2]]))
    assert sliced[..., 0].tolist() == [[0, 10, 1, 11], [110, 120, 111, 121], [200, 220, 201, 221]]
    assert sliced.shape == part.pruned_shape(experts.shape, 2)
