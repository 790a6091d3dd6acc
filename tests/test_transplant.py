"""Where tuning wrote: by hand, on the paper's own shapes, and back again exactly."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import stats
from transformers import ArceeConfig, AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, Phi3Config

from widthprune import WidthPruneError, score_model
from widthprune.architectures import paper_config
from widthprune.studies.masking import complement, lowest
from widthprune.studies.transplant import (
    change_shares,
    changes,
    put_back,
    rank_correlations,
    removed_neurons,
    squared,
)

SMALL = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
NONE = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
FAMILIES = {
    "llama": LlamaConfig(**SMALL, **NONE),
    "no gate": ArceeConfig(**SMALL, **NONE),
    "with biases": GPTNeoXConfig(**SMALL, **NONE),
    "gate and up in one": Phi3Config(**SMALL, **NONE),
}


def pair(config):
    """A random model, and another as if it had been tuned from it."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    tuned = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    tuned.load_state_dict({name: w + 0.01 * torch.randn_like(w) for name, w in base.state_dict().items()})
    tuned.tie_weights()
    return base, tuned


def logits(model):
    with torch.inference_mode():
        return model(input_ids=torch.arange(12).reshape(2, 6)).logits


def everything(model):
    return complement(model, {name: torch.empty(0, dtype=torch.int64) for name in lowest(model, "PPM", 10)})


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_put_back_everywhere_is_the_tuned_model_and_nowhere_neither(config):
    base, tuned = pair(config)
    nobody = {name: torch.empty(0, dtype=torch.int64) for name in everything(base)}
    assert torch.equal(logits(put_back(base, tuned, everything(base))), logits(tuned))
    halfway = put_back(base, tuned, nobody)
    assert not torch.equal(logits(halfway), logits(base)) and not torch.equal(logits(halfway), logits(tuned))


def test_put_back_into_some_takes_their_rows_and_columns_alone():
    base, tuned = pair(FAMILIES["llama"])
    some = lowest(base, "PPM", 25)
    mixed = put_back(base, tuned, some)
    for name, own in some.items():
        models = [model.get_submodule(name) for model in (mixed, base, tuned)]
        for part, rows in {
            "gate_proj": slice(None),
            "up_proj": slice(None),
            "down_proj": slice(None),
        }.items():
            got, old, new = (getattr(mlp, part).weight.detach() for mlp in models)
            got, old, new = (w.T if part == "down_proj" else w for w in (got, old, new))
            assert torch.equal(got[own], new[own]) and rows == slice(None)
            others = complement(base, some)[name]
            assert torch.equal(got[others], old[others])


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_changes_are_those_of_the_models_in_memory(config, tmp_path):
    base, tuned = pair(config)
    for name, model in (("base", base), ("tuned", tuned)):
        model.save_pretrained(tmp_path / name)
    table = changes(tmp_path / "base", tmp_path / "tuned")
    scores = score_model(base)
    assert np.array_equal(table["score"], torch.cat(list(scores.values())).numpy())
    gone = lowest(base, "PPM", 40)
    for pct in (0, 40):
        found = removed_neurons(table, pct)
        assert found.sum() == (2 * 9 if pct else 0)
    for layer, name in enumerate(gone):
        own = table[table["layer"] == layer].reset_index()
        assert own.index[removed_neurons(table, 40)[own["index"]]].tolist() == gone[name].tolist()
    if config is FAMILIES["llama"]:
        mlps = [model.model.layers[1].mlp for model in (base, tuned)]
        change = (mlps[1].down_proj.weight - mlps[0].down_proj.weight).detach().norm(dim=0)
        own = table[table["layer"] == 1]
        assert own["change_down"].to_numpy() == pytest.approx(change.numpy(), rel=1e-5)
        assert own["norm_gate"].to_numpy() == pytest.approx(
            mlps[0].gate_proj.weight.detach().norm(dim=1).numpy()
        )


def test_the_papers_own_shape_in_bfloat16_and_in_shards(tmp_path):
    config = paper_config(
        "Llama-3.2-1B", hidden_size=32, intermediate_size=64, num_hidden_layers=2, vocab_size=64
    )
    torch.manual_seed(0)
    for name in ("base", "tuned"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(tmp_path / name, max_shard_size="20KB" if name == "tuned" else "1GB")
    assert len(list((tmp_path / "tuned").glob("*.safetensors"))) > 1
    table = changes(tmp_path / "base", tmp_path / "tuned")
    assert len(table) == 128 and (table[["change_gate", "change_up", "change_down"]] > 0).all(axis=None)


def toy(n=200, layers=2):
    rng = np.random.default_rng(0)
    columns = {
        f"{what}_{name}": rng.random(n) for what in ("change", "norm") for name in ("gate", "up", "down")
    }
    return pd.DataFrame(
        dict(layer=np.arange(n) % layers, neuron=np.arange(n) // layers, score=rng.random(n)) | columns
    )


def test_shares_add_up_and_random_sets_hold_their_size():
    table = toy()
    weight = squared(table)
    gone = removed_neurons(table, 30)
    whole = weight[gone].sum() / weight.sum() + weight[~gone].sum() / weight.sum()
    found = change_shares(table, (30, 99), draws=400)
    assert whole == pytest.approx(1) and found.loc[0, "share"] == pytest.approx(
        weight[gone].sum() / weight.sum()
    )
    assert (abs(found["random"] - [0.3, 0.99]) < 4 * found["random_sd"] / 20).all()


def test_all_the_change_in_the_lowest_scores_is_found():
    table = toy()
    low = removed_neurons(table, 20)
    for name in ("gate", "up", "down"):
        table[f"change_{name}"] = low.astype(float)
    assert change_shares(table, (20,)).loc[0, "share"] == pytest.approx(1)
    assert (rank_correlations(table)["rho"].dropna() < 0).all()


def test_rank_correlations_agree_with_scipy():
    table = toy()
    found = rank_correlations(table).set_index(["layer", "matrix", "change"])["rho"]
    own = table[table["layer"] == 1]
    assert len(found) == 2 * 3 * 2
    relative = stats.spearmanr(own["score"], own["change_up"] / own["norm_up"]).statistic
    assert found[1, "up", "relative"] == pytest.approx(relative)


def test_two_models_of_different_shapes_are_refused_in_one_line(tmp_path):
    base, _ = pair(FAMILIES["llama"])
    base.save_pretrained(tmp_path / "base")
    AutoModelForCausalLM.from_config(
        LlamaConfig(**SMALL | dict(intermediate_size=20), **NONE)
    ).save_pretrained(tmp_path / "narrow")
    AutoModelForCausalLM.from_config(FAMILIES["no gate"]).save_pretrained(tmp_path / "plain")
    for other, says in (
        ("narrow", r"down_proj.weight is \(16, 24\) in .*narrow"),
        ("plain", "nothing in .*plain"),
    ):
        with pytest.raises(WidthPruneError, match=f"of one shape: .*{says}") as error:
            changes(tmp_path / "base", tmp_path / other)
        assert "\n" not in str(error.value)


def test_quantized_weights_and_other_mistakes_are_refused_in_one_line(tmp_path):
    base, tuned = pair(FAMILIES["llama"])
    base.save_pretrained(tmp_path / "base")
    file = tmp_path / "base" / "model.safetensors"
    save_file({n: w.to(torch.int8) if "gate" in n else w for n, w in load_file(file).items()}, file)
    for ask, says in (
        (lambda: changes(tmp_path / "base", tmp_path / "base"), "stored as I8"),
        (lambda: changes(tmp_path / "base", tmp_path / "nowhere"), "nowhere"),
    ):
        with pytest.raises(WidthPruneError, match=says) as error:
            ask()
        assert "\n" not in str(error.value)
