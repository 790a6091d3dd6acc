"""Config fields and the sizes that come from them, by hand."""

import pytest

from widthprune import WidthPruneError
from widthprune.layouts import find_layouts
from widthprune.widths import config_changes, find_widths, kept_sizes, kept_units

H = 32


def mlps(**sizes):
    """A dense layer, experts and a shared expert of the sizes given."""
    shapes = {}
    for kind, size in sizes.items():
        if kind == "expert":
            shapes |= {
                "layers.1.mlp.experts.up_proj": (4, size, H),
                "layers.1.mlp.experts.down_proj": (4, H, size),
            }
        else:
            path = "layers.0.mlp" if kind == "dense" else "layers.1.mlp.shared_expert"
            shapes |= {f"{path}.up_proj.weight": (size, H), f"{path}.down_proj.weight": (H, size)}
    return find_layouts(shapes, "", H, "m")


def pruned(found, config, **target):
    """(kept by kind, what the config changes)"""
    widths = find_widths(found, config, "m")
    units = kept_units(found, widths, **target)
    sizes = kept_sizes(found, widths, units)
    return {mlp.kind: sizes[mlp.name] for mlp in found}, config_changes(config, units)


def test_one_size():
    assert pruned(mlps(dense=88), {"intermediate_size": 88}, expansion_ratio=1.5) == (
        {"dense": 48}, {"intermediate_size": 48}
    )  # fmt: skip


def test_each_kind_by_its_own_field():
    config = {"intermediate_size": 88, "moe_intermediate_size": 40, "shared_expert_intermediate_size": 56}
    kept, changes = pruned(mlps(dense=88, expert=40, shared=56), config, pruning_pct=50)
    assert kept == {"dense": 44, "expert": 24, "shared": 28}  # experts: 20, rounded up to a multiple of 8
    assert changes == {
        "intermediate_size": 44, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 28
    }  # fmt: skip


def test_a_shared_expert_of_several():
    config = {"intermediate_size": 88, "moe_intermediate_size": 40, "n_shared_experts": 2}
    kept, changes = pruned(mlps(expert=40, shared=80), config, pruning_pct=40)
    assert kept == {"expert": 24, "shared": 48} and changes == {"moe_intermediate_size": 24}


def test_a_field_that_is_twice_the_size():
    assert pruned(mlps(dense=44), {"intermediate_size": 88}, pruning_pct=25) == (
        {"dense": 33}, {"intermediate_size": 66}
    )  # fmt: skip


def test_absent_means_four_times_the_hidden_size():
    assert pruned(mlps(dense=4 * H), {"n_inner": None}, pruning_pct=50)[1] == {"n_inner": 64}


def test_a_list_with_one_for_each_layer():
    config = {"intermediate_size": [88, 40]}
    assert pruned(mlps(dense=88), config, pruning_pct=50)[1] == {"intermediate_size": [44, 40]}


def test_an_expert_keeps_an_odd_size_that_it_has():
    assert pruned(mlps(expert=41), {"moe_intermediate_size": 41}, pruning_pct=50)[0] == {"expert": 21}


def test_multiple_of():
    config = {"intermediate_size": 88, "moe_intermediate_size": 48}
    kept, _ = pruned(mlps(dense=88, expert=48), config, pruning_pct=50, multiple_of=3)
    assert kept == {"dense": 45, "expert": 24}


# Bad input.


def test_no_field():
    with pytest.raises(
        WidthPruneError, match="config.json says intermediate_size 90, but layers.0.mlp has 88 neurons"
    ):
        find_widths(mlps(dense=88), {"intermediate_size": 90}, "m")
    with pytest.raises(WidthPruneError, match="says no field for a size, but .* 88 neurons"):
        find_widths(mlps(dense=88), {}, "m")


@pytest.mark.parametrize("target", ["expansion_ratio", "size"])
def test_one_number_for_several_sizes(target):
    config = {"intermediate_size": 88, "moe_intermediate_size": 40}
    with pytest.raises(
        WidthPruneError, match=f"{target} needs a model with one intermediate size.*pruning_pct"
    ):
        pruned(mlps(dense=88, expert=40), config, **{target: 1})
