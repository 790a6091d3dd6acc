import pytest

from widthprune import WidthPruneError, kept_size, published
from widthprune.architectures import SHAPES, meta_model, paper_config

ROWS = list(published("architectures").itertuples())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.model}-{row.pruning_pct:g}")
def test_all_fifteen_parameter_counts(row):
    config = paper_config(row.model)
    assert (config.hidden_size, config.num_hidden_layers) == (row.hidden_size, row.num_hidden_layers)
    size = kept_size(config.intermediate_size, config.hidden_size, pruning_pct=row.pruning_pct)
    assert size == row.intermediate_size_after
    assert meta_model(config).num_parameters() == row.total_parameters_before
    pruned = meta_model(paper_config(row.model, intermediate_size=size))
    assert pruned.num_parameters() == row.total_parameters_after


def test_fifteen_rows():
    assert len(ROWS) == 15 and {row.model for row in ROWS} == set(SHAPES)


def test_unknown_name():
    with pytest.raises(WidthPruneError, match=r"name must be one of Llama-3.2-1B, .* got 'Llama-4'"):
        paper_config("Llama-4")
