"""The bandwidth model: bytes counted by hand, and a speed that no memory exceeds."""

from conftest import tiny_model

from widthprune.efficiency.bandwidth import bytes_per_token, read_bandwidth


def test_the_input_embedding_is_read_only_if_tied():
    tied, untied = tiny_model(tie_word_embeddings=True), tiny_model(tie_word_embeddings=False)
    whole = sum(parameter.nbytes for parameter in tied.parameters())
    assert sum(parameter.nbytes for parameter in untied.parameters()) - whole == 97 * 32 * 4
    assert bytes_per_token(untied) == bytes_per_token(tied) == whole


def test_a_plausible_bandwidth():
    assert 1e8 < read_bandwidth(megabytes=64, repeats=3) < 1e13
