"""Attribution adds up to what it attributes, and the study measures what it says."""

import copy
import json

import numpy as np
import pytest
import torch
from conftest import tiny_model
from families import byte_tokenizer
from scipy import stats
from torch.nn import functional as F
from transformers import OPTConfig, OPTForCausalLM

from widthprune.errors import WidthPruneError
from widthprune.mlps import find_mlps
from widthprune.studies import attribution
from widthprune.studies.attribution import attribute, encode, likelihoods, log_likelihoods, log_odds
from widthprune.studies.misconceptions import (
    COLUMNS,
    STEPS,
    last_signals,
    only_myths,
    speakers,
    study_integrated,
    study_misconceptions,
)
from widthprune.studies.pairs import NO_PAIR, SETS, Pair, load_pairs

PAIRS = [
    Pair("Q: Is it so?\nA:", " No.", " Yes, it is."),
    Pair("", "Bats can see.", "Bats are blind."),
    Pair("", "A hen lays eggs.", "A cock lays eggs."),
    Pair("", "Ice is cold.", "Ice is warm, they say."),
]


@pytest.fixture(scope="module")
def model():
    return tiny_model(vocab_size=300, num_hidden_layers=2, initializer_range=0.3)


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


def test_the_log_likelihood_is_the_loss(model, tokenizer):
    tokens, start = encode(tokenizer, "Q: a\nA:", " bcd")
    assert tokenizer.decode(tokens[start:]) == " bcd"
    logits = model(tokens[None]).logits[0]
    expected = -F.cross_entropy(logits[start - 1 : -1], tokens[start:])
    assert torch.allclose(log_likelihoods(model, [(tokens, start)]), expected, atol=1e-6)


def test_length_is_taken_out(model, tokenizer):
    found = likelihoods(model, tokenizer, PAIRS)
    lengths = [len(tokenizer(text).input_ids) for text in (PAIRS[0].truth, PAIRS[0].myth)]
    assert found[0, 1].tolist() == lengths and lengths[0] < lengths[1]
    sums = found[:, 0] * found[:, 1]
    assert torch.allclose(log_odds(found, summed=True), sums[:, 1] - sums[:, 0])
    assert torch.allclose(log_odds(found), found[:, 0, 1] - found[:, 0, 0])


def test_pairs_are_read_side_by_side_as_one_by_one(model, tokenizer, monkeypatch):
    every = PAIRS * 3  # of several lengths, in more than one batch
    assert len(every) > attribution.BATCH
    together = likelihoods(model, tokenizer, every), last_signals(model, tokenizer, every)
    shares = [attribute(model, tokenizer, every, steps) for steps in (0, 2)]
    monkeypatch.setattr(attribution, "BATCH", 1)
    alone = [likelihoods(model, tokenizer, [pair]) for pair in every]
    assert torch.allclose(together[0], torch.cat(alone), atol=1e-5)
    assert torch.allclose(together[1], last_signals(model, tokenizer, every), atol=1e-5)
    for steps, found in zip((0, 2), shares, strict=True):
        for name, own in attribute(model, tokenizer, every, steps).items():
            assert own.abs().max() > 1e-4 and torch.allclose(found[name], own, atol=1e-5)


def test_attribution_is_what_removal_does_to_first_order(model, tokenizer):
    # Small columns of down_proj: what is beyond first order vanishes.
    small = tiny_model(vocab_size=300, num_hidden_layers=2, initializer_range=0.3).double()
    mlp = find_mlps(small)[1]
    with torch.no_grad():
        small.get_parameter(mlp.output.tensor).mul_(1e-3)
    shares = attribute(small, tokenizer, PAIRS[:1])[mlp.name][0, 1].double()
    tokens, start = encode(tokenizer, PAIRS[0].prompt, PAIRS[0].myth)
    before = float(log_likelihoods(small, [(tokens, start)]).detach())
    for neuron in (0, 7, 40):
        column = small.get_parameter(mlp.output.tensor)[:, neuron]
        kept = column.detach().clone()
        with torch.no_grad():
            column.zero_()
        change = before - float(log_likelihoods(small, [(tokens, start)]).detach())
        with torch.no_grad():
            column.copy_(kept)
        assert change == pytest.approx(float(shares[neuron]), rel=0.02, abs=1e-6)


def test_integrated_gradients_add_up_to_what_the_layer_gives(model, tokenizer):
    shares = attribute(model, tokenizer, PAIRS[:1], steps=8)
    for mlp in find_mlps(model)[1:]:
        silent = copy.deepcopy(model)
        with torch.no_grad():
            silent.get_parameter(mlp.output.tensor).zero_()
        for side, text in enumerate((PAIRS[0].truth, PAIRS[0].myth)):
            tokens, start = encode(tokenizer, PAIRS[0].prompt, text)
            with torch.no_grad():
                gives = float(
                    log_likelihoods(model, [(tokens, start)]) - log_likelihoods(silent, [(tokens, start)])
                )
            assert float(shares[mlp.name][0, side].sum()) == pytest.approx(gives, abs=2e-3)
            assert abs(gives) > 0.1


def test_a_model_that_lays_tokens_one_after_another(tokenizer):
    """OPT does: attribution is what removal does to first order there, too."""
    torch.manual_seed(0)
    sizes = dict(
        hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=2, word_embed_proj_dim=16
    )
    config = OPTConfig(vocab_size=len(tokenizer), max_position_embeddings=512, dropout=0.0, **sizes)
    model = OPTForCausalLM(config).eval()
    pairs = load_pairs("pocket", 3)
    for steps in (0, 2):
        together = attribute(model, tokenizer, pairs, steps)
        alone = [attribute(model, tokenizer, [pair], steps) for pair in pairs]
        for name, shares in together.items():
            assert shares.shape == (3, 2, 24)
            torch.testing.assert_close(shares, torch.cat([own[name] for own in alone]), rtol=1e-3, atol=1e-5)


def test_attribution_leaves_the_model_as_it_was(model, tokenizer):
    model.train()
    attribute(model, tokenizer, PAIRS[:1])
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    model.eval()


def test_integrated_gradients_beside_gradients(model, tokenizer):
    table = study_integrated(model, tokenizer, {"pocket": PAIRS[:3]})
    assert set(table["measure"]) == {"share", "rank", "only_myths", "agreement"}
    both = [attribute(model, tokenizer, PAIRS[:3], steps) for steps in (0, STEPS)]
    by_layer = [
        stats.spearmanr(*[(x[name][:, 1] - x[name][:, 0]).mean(0) for x in both])[0] for name in both[0]
    ]
    agreement = table[table["measure"] == "agreement"].iloc[0]
    assert agreement["value"] == pytest.approx(np.mean(by_layer)) and 0.2 < agreement["value"] < 1


def test_neurons_that_matter_for_myths_alone():
    scores = torch.arange(40.0)
    importance = torch.zeros(2, 40)
    importance[0, [3, 39]] = 1
    importance[1, [3, 0]] = 1
    assert only_myths(importance, scores) == [0.0]


def test_speakers_are_those_whose_shares_favour_the_myth():
    shares = {"mlp": torch.zeros(3, 2, 4)}
    shares["mlp"][:, 1, 2] = 1.0
    shares["mlp"][:, 0, 1] = 1.0
    assert speakers([shares])["mlp"].argsort().tolist()[0] == 2
    assert speakers([shares])["mlp"].argsort().tolist()[-1] == 1


def test_the_study(model, tokenizer):
    # Every pair is in both halves.
    sets = {"pocket": [pair for pair in PAIRS for _ in range(2)], "cities": PAIRS[:2]}
    table = study_misconceptions(model, tokenizer, sets, myths=["pocket"], pcts=[10.0, 50.0], draws=2)
    assert list(table) == list(COLUMNS)
    odds = table[(table["measure"] == "odds") & (table["set"] == "pocket") & (table["pruning_pct"] == 50)]
    assert sorted(odds["criterion"]) == ["ATTRIBUTED", "PPM", "PPM-REVERSED", "RANDOM", "RANDOM"]
    assert set(odds["n"]) == {4}
    # The mean of differences is the difference of means.
    further = table[(table["measure"] == "against_random") & (table["set"] == "pocket")]
    further = further[further["pruning_pct"] == 50].set_index("criterion")["value"]
    by_name = odds.groupby("criterion")["value"].mean()
    assert further["PPM"] == pytest.approx(by_name["PPM"] - by_name["RANDOM"])
    # What speaks for the myth most is removed: the odds fall further than without as many random neurons.
    assert further["ATTRIBUTED"] < 0
    direction = table[table["measure"].str.startswith("direction:")]
    assert direction["value"].between(0, 1).all() and set(direction["pruning_pct"]) == {0, 10, 40}


def test_shares_in_random_neurons_would_be_none(model, tokenizer):
    table = study_misconceptions(
        model, tokenizer, {"pocket": PAIRS * 2}, myths=["pocket"], pcts=[10.0], draws=1
    )
    share = table[table["measure"] == "share"]
    assert (share["value"].abs() < 1).all() and len(share) == 3


def test_pairs_of_the_package():
    pairs = load_pairs("pocket")
    assert len(pairs) > 20 and all(pair.truth != pair.myth and pair.prompt for pair in pairs)
    assert load_pairs("pocket", 5, seed=1) == load_pairs("pocket", 5, seed=1)
    assert load_pairs("pocket", 5, seed=1) != load_pairs("pocket", 5, seed=2)


def test_pairs_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("WIDTHPRUNE_DATA", str(tmp_path))
    cities = tmp_path / SETS["cities"][1]
    cities.parent.mkdir(parents=True)
    cities.write_text(
        "statement,label,city\nA is here.,1,A\nA is there.,0,A\nB is here.,0,B\nC is here.,1,C\n"
    )
    assert load_pairs("cities") == [Pair("", "A is here.", "A is there.")]
    bigbench = tmp_path / SETS["bigbench"][1]
    bigbench.parent.mkdir(parents=True)
    rows = [json.dumps({"misconception": f"myth {i}", "truth": f"truth {i}"}) for i in range(87)]
    bigbench.write_text("\n".join(rows))
    assert len(load_pairs("bigbench")) == 87 - len(NO_PAIR)
    truthful = tmp_path / SETS["truthfulqa"][1]
    truthful.parent.mkdir(parents=True)
    targets = {"choices": ["best", "wrong", "worse"], "labels": [1, 0, 0]}
    truthful.write_text(json.dumps({"question": "why?", "mc1_targets": targets}))
    assert load_pairs("truthfulqa") == [Pair("Q: why?\nA:", " best", " wrong")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read .No such file or directory.: copy them to misconceptions/.*cities.csv under"),
        ("", "holds no pair of cities"),
        ("statement,label,city\n", "holds no pair of cities"),
        ("statement,city\na,b\nc,d\n", "does not hold the pairs of cities"),
        ("\xff\xfe", "does not hold the pairs of cities"),
    ],
)
def test_pairs_that_are_none(text, says, tmp_path, monkeypatch):
    monkeypatch.setenv("WIDTHPRUNE_DATA", str(tmp_path))
    path = tmp_path / SETS["cities"][1]
    path.parent.mkdir(parents=True)
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(WidthPruneError, match=says) as caught:
        load_pairs("cities")
    assert "\n" not in str(caught.value)


def test_sets_that_are_not_at_hand(monkeypatch):
    monkeypatch.delenv("WIDTHPRUNE_DATA", raising=False)
    with pytest.raises(WidthPruneError, match="WIDTHPRUNE_DATA: set it"):
        load_pairs("cities")
    with pytest.raises(WidthPruneError, match="set must be one of"):
        load_pairs("towns")


def test_a_text_that_adds_nothing(tokenizer):
    with pytest.raises(WidthPruneError, match="adds no token to its prompt: leave its pair out"):
        encode(tokenizer, "abc", "")


def test_halves_have_errors_over_pairs(model, tokenizer):
    found = log_odds(likelihoods(model, tokenizer, PAIRS)).numpy()
    table = study_misconceptions(model, tokenizer, {"pocket": PAIRS}, myths=["pocket"], pcts=[10.0], draws=1)
    before = table[table["measure"] == "odds_before"].iloc[0]
    assert before["value"] == pytest.approx(found[1::2].mean())
    assert before["stderr"] == pytest.approx(np.std(found[1::2], ddof=1) / 2**0.5)
