import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from widthprune import WidthPruneError, expansion_ratio, kept_size


@pytest.mark.parametrize(
    ("pct", "size"), [(0, 8192), (10, 7373), (20, 6554), (30, 5735), (40, 4916), (50, 4096), (60, 3277)]
)
def test_the_papers_sizes(pct, size):
    assert kept_size(8192, 2048, pruning_pct=pct) == size
    # The same size is reached by the ratio that the paper names for it.
    assert kept_size(8192, 2048, expansion_ratio=4 * (100 - pct) / 100) == size
    assert kept_size(8192, 3072, expansion_ratio=8192 / 3072 * (100 - pct) / 100) == size


def test_the_seed_question():
    assert round(expansion_ratio(4916, 2048), 2) == 2.40


@given(hidden=st.integers(1, 5000), size=st.integers(1, 20000), data=st.data())
def test_the_ratio_of_a_size_gives_that_size_back(hidden, size, data):
    kept = data.draw(st.integers(1, size))
    assert kept_size(size, hidden, expansion_ratio=kept / hidden) == kept


@given(size=st.integers(1, 20000), pct=st.floats(0, 100, exclude_max=True), multiple=st.integers(1, 256))
def test_never_removes_more_than_asked(size, pct, multiple):
    kept = kept_size(size, 64, pruning_pct=pct, multiple_of=multiple)
    assert 1 <= kept <= size
    assert size - kept <= size * pct / 100
    assert kept % multiple == 0 or kept == size


@pytest.mark.parametrize("pct", [-1, 100, 120, float("nan")])
def test_pct_out_of_range(pct):
    with pytest.raises(WidthPruneError, match=r"pruning_pct must be in \[0, 100\), got"):
        kept_size(8192, 2048, pruning_pct=pct)


@pytest.mark.parametrize("ratio", [0, -2, 4.1, float("nan")])
def test_ratio_out_of_range(ratio):
    with pytest.raises(WidthPruneError, match=r"expansion_ratio must be in \(0, 4.0000\]"):
        kept_size(8192, 2048, expansion_ratio=ratio)


@pytest.mark.parametrize("size", [1, np.int64(40), 88])
def test_a_size_is_kept_as_it_is(size):
    assert kept_size(88, 32, size=size) == size and type(kept_size(88, 32, size=size)) is int
    assert kept_size(88, 32, size=size, multiple_of=64) in (64, 88)


@pytest.mark.parametrize("size", [0, 89, 2.5, True, "40"])
def test_size_out_of_range(size):
    with pytest.raises(WidthPruneError, match="size must be a whole number of neurons from 1 to 88, got"):
        kept_size(88, 32, size=size)


def test_both_or_neither():
    with pytest.raises(WidthPruneError, match="got a size beside one"):
        kept_size(8192, 2048, pruning_pct=10, size=4)
    with pytest.raises(WidthPruneError, match="got both"):
        kept_size(8192, 2048, pruning_pct=10, expansion_ratio=2)
    with pytest.raises(WidthPruneError, match="got neither"):
        kept_size(8192, 2048)


@pytest.mark.parametrize("multiple_of", [0, -8, 2.5, True])
def test_multiple_of(multiple_of):
    with pytest.raises(WidthPruneError, match="multiple_of must be a whole number"):
        kept_size(8192, 2048, pruning_pct=10, multiple_of=multiple_of)


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (dict(pruning_pct=40), 4916),
        (dict(pruning_pct=40, multiple_of=64), 4928),  # the next multiple above, and no other
        (dict(pruning_pct=0, multiple_of=3000), 8192),  # never more than there are
        (dict(expansion_ratio=1e-12), 1),
        (dict(expansion_ratio=1.5 / 2048), 2),
    ],
)
def test_sizes_by_hand(asked, kept):
    assert kept_size(8192, 2048, **asked) == kept


@pytest.mark.parametrize("target", ["40", None.__class__, [40]])
@pytest.mark.parametrize("name", ["pruning_pct", "expansion_ratio"])
def test_a_target_that_is_no_number(name, target):
    with pytest.raises(WidthPruneError, match=name):
        kept_size(8192, 2048, **{name: target})
