"""The models of a sweep, each once."""

from widthprune.evaluation.grid import grid


def test_the_grid_names_the_unpruned_model_once():
    points = grid(8192, 2048, pruning_pcts=[0, 10, 40], criteria=["ppm", "L2", "PPM"])
    assert [(p.criterion, p.pruning_pct, p.intermediate_size) for p in points] == [
        ("none", 0, 8192), ("PPM", 10, 7373), ("PPM", 40, 4916), ("L2", 10, 7373), ("L2", 40, 4916)
    ]  # fmt: skip


def test_a_ratio_and_the_percentage_that_reaches_it_are_one_point():
    points = grid(8192, 2048, pruning_pcts=[40], expansion_ratios=[2.4, 2.0, 1.0])
    assert [(p.pruning_pct, p.intermediate_size, p.expansion_ratio) for p in points[1:]] == [
        (40, 4916, 2.4004), (50, 4096, 2.0), (75, 2048, 1.0)
    ]  # fmt: skip
