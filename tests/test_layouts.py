"""Names and shapes in, parts out: by hand, and what is refused."""

from pathlib import Path

import pytest

from widthprune import WidthPruneError
from widthprune.layouts import LAYOUTS, Part, find_layouts

H, D = 32, 88  # hidden size, neurons
OUT = {"down_proj.weight": (H, D)}


def find(tensors, model_type="", hidden_size=H, prefix="layers.0.mlp."):
    return find_layouts(
        {prefix + name: shape for name, shape in tensors.items()}, model_type, hidden_size, "m"
    )


def summary(mlp):
    return {(part.tensor.removeprefix("layers.0.mlp."), part.axis, part.packing) for part in mlp.parts}


def test_gate_and_up_apart_by_hand():
    tensors = {
        "gate_proj.weight": (D, H),
        "up_proj.weight": (D, H),
        **OUT,
        "up_proj.bias": (D,),
        "down_proj.bias": (H,),
    }
    (mlp,) = find(tensors)
    assert (mlp.name, mlp.kind, mlp.size, mlp.hidden_size, mlp.experts, mlp.output) == (
        "layers.0.mlp", "dense", D, H, None, Part("layers.0.mlp.down_proj.weight", "output", 1)
    )  # fmt: skip
    # The output's bias belongs to no neuron.
    assert summary(mlp) == {
        ("gate_proj.weight", 0, "single"),
        ("up_proj.weight", 0, "single"),
        ("up_proj.bias", 0, "single"),
        ("down_proj.weight", 1, "single"),
    }


def test_gate_and_up_in_one_matrix():
    (mlp,) = find({"gate_up_proj.weight": (2 * D, H), **OUT})
    assert summary(mlp) == {
        ("gate_up_proj.weight", 0, "halves"),
        ("down_proj.weight", 1, "single"),
    }


def test_one_input_is_no_gate():
    (mlp,) = find({"up_proj.weight": (D, H), **OUT})
    assert mlp.size == D and mlp.output.path == "layers.0.mlp.down_proj"
    assert summary(mlp) == {("up_proj.weight", 0, "single"), ("down_proj.weight", 1, "single")}


def test_matrices_stored_in_out():
    (mlp,) = find({"c_fc.weight": (H, D), "c_fc.bias": (D,), "c_proj.weight": (D, H)}, "gpt2")
    assert summary(mlp) == {
        ("c_fc.weight", 1, "single"),
        ("c_fc.bias", 0, "single"),
        ("c_proj.weight", 0, "single"),
    }
    # Equal sides leave it to the family.
    square = {"c_fc.weight": (H, H), "c_proj.weight": (H, H)}
    assert {part.axis for part in find(square, "gpt2")[0].parts if part.role == "input"} == {1}
    assert {part.axis for part in find(square, "starcoder2")[0].parts if part.role == "input"} == {0}


@pytest.mark.parametrize("size", [D, H, H // 2])
@pytest.mark.parametrize("stored", ["out in", "in out"])
def test_stacked_experts_in_either_order(stored, size):
    gate_up, down = ((2 * size, H), (H, size)) if stored == "out in" else ((H, 2 * size), (size, H))
    tensors = {"experts.gate_up_proj": (4, *gate_up), "experts.down_proj": (4, *down), "gate.weight": (4, H)}
    (mlp,) = find(tensors)
    assert (mlp.name, mlp.kind, mlp.size, mlp.experts) == ("layers.0.mlp.experts", "expert", size, 4)
    axis = 0 if stored == "out in" else 1
    assert [(part.axis, part.stacked) for part in mlp.parts] == [(axis, True), (1 - axis, True)]
    assert mlp.parts[0].pruned_shape((4, *gate_up), 3) == ((4, 6, H) if axis == 0 else (4, H, 6))
    assert find(tensors, "gpt_oss")[0].parts[0].packing == "alternating"


def test_separate_experts_are_one_mlp():
    tensors = {}
    for expert in range(11):
        tensors |= {f"experts.{expert}.{name}.weight": (D, H) for name in ("w1", "w3")}
        tensors[f"experts.{expert}.w2.weight"] = (H, D)
    (mlp,) = find(tensors)
    assert (mlp.experts, len(mlp.parts)) == (11, 33)
    assert [part.expert for part in mlp.of_expert(10)] == [10] * 3


def test_order_is_that_of_the_layers():
    shapes = {}
    for layer in (10, 2, 0):
        shapes |= {
            f"layers.{layer}.mlp.up_proj.weight": (D, H),
            f"layers.{layer}.mlp.down_proj.weight": (H, D),
        }
    assert [mlp.layer for mlp in find_layouts(shapes, "", H, "m")] == [(0,), (2,), (10,)]


def test_towers_attention_and_routers_are_left_alone():
    other = {"fc1.weight": (D, H), "fc2.weight": (H, D)}
    shapes = {f"{place}.{name}": shape for name, shape in other.items() for place in (
        "vision_tower.layers.0.mlp", "audio.layers.0", "layers.0.self_attn", "layers.0.router", "layers.0.mlp.gate",
        "layers.0.input_layernorm.mlp",
    )}  # fmt: skip
    own = {f"layers.0.mlp.{name}": shape for name, shape in other.items()}
    assert [mlp.name for mlp in find_layouts(shapes | own, "", H, "m")] == ["layers.0.mlp"]


def test_every_layout_is_in_the_book():
    table = (Path(__file__).parent.parent / "book" / "method.md").read_text(encoding="utf-8")
    for layout in LAYOUTS:
        row = (
            f"| {', '.join(f'`{name}`' for name in layout.inputs)} | `{layout.output}` | {layout.families} |"
        )
        assert row in table, row


# Bad input.

BAD = {
    "nothing": ({"w.weight": (3, 3)}, "m has no MLP of a known layout"),
    "no up": ({"gate_proj.weight": (D, H), **OUT}, "has no MLP of a known layout"),
    "sizes": (
        {"gate_proj.weight": (D, H), "up_proj.weight": (80, H), **OUT},
        r"layers.0.mlp: gate_proj, up_proj, down_proj must share one intermediate size, got shapes \(88, 32\), \(80, 32\)",
    ),
    "experts that differ": (
        {"experts.gate_up_proj": (6, 2 * D, H), "experts.down_proj": (4, H, D)}, "must share one intermediate size"
    ),
    "a norm over the neurons": (
        {"up_proj.weight": (D, H), **OUT, "norm.weight": (D,)},
        r"layers.0.mlp.norm.weight of shape \(88,\) among the 88 neurons",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_refused(case):
    tensors, message = BAD[case]
    with pytest.raises(WidthPruneError, match=message):
        find(tensors)


def test_a_missing_gate_is_not_an_mlp_without_one():
    whole = {"gate_proj.weight": (D, H), "up_proj.weight": (D, H), **OUT}
    shapes = {f"layers.{layer}.mlp.{name}": shape for name, shape in whole.items() for layer in (0, 1)}
    del shapes["layers.1.mlp.gate_proj.weight"]
    with pytest.raises(
        WidthPruneError, match="has layers.1.mlp.up_proj without layers.1.mlp.gate_proj: copy it again"
    ):
        find_layouts(shapes, "", H, "m")


def test_a_missing_expert():
    shapes = {
        f"experts.{e}.{n}.weight": s for e in (0, 2) for n, s in (("up_proj", (D, H)), ("down_proj", (H, D)))
    }
    with pytest.raises(WidthPruneError, match="must hold experts 0 to 1 of one size, got .* up to 2"):
        find(shapes)
