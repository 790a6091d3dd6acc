import ast
import copy
import inspect

import pytest
import torch
from conftest import CONFIGS, logits, tiny_model
from families import tiny_family
from hypothesis import given, settings
from hypothesis import strategies as st
from optipfair import prune_model as optipfair_prune
from optipfair.pruning.mlp_glu import IMPORTANCE_FUNCTIONS, prune_neuron_pairs
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, MambaConfig, MambaForCausalLM

from widthprune import (
    CRITERIA,
    WidthPruneError,
    load_model,
    prune_model,
    pruning,
    score_model,
    score_neurons,
)
from widthprune.mlps import find_mlps, input_weights, part_of
from widthprune.pruning import cut_model, target_sizes
from widthprune.reruns.fingerprint import PACKAGE, imported
from widthprune.scores import choose_neurons, kept_indices

PAPER_PCTS = (10, 20, 30, 40, 50, 60)
TOLERANCE = {torch.float32: dict(rtol=1e-5, atol=1e-6), torch.bfloat16: dict(rtol=0.05, atol=0.02)}


@pytest.fixture(scope="module")
def smollm2():
    return load_model("smollm2-135m-instruct")[0]


@torch.no_grad()
def masked(model, scores, size):
    """The full-size model in which a pruned neuron's activation meets weights of zero."""
    model = copy.deepcopy(model)
    for mlp in find_mlps(model):
        gone = torch.ones(mlp.size, dtype=torch.bool)
        gone[kept_indices(scores[mlp.name], size)] = False
        model.get_submodule(mlp.output.path).weight[:, gone] = 0
    return model


@settings(max_examples=40, deadline=None)
@given(
    family=st.sampled_from(list(CONFIGS)),
    criterion=st.sampled_from(CRITERIA),
    pct=st.floats(0, 99.9),
    size=st.integers(3, 120),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_pruned_equals_masked(family, criterion, pct, size, dtype, seed):
    model = tiny_model(family, dtype, seed, intermediate_size=size)
    pruned = prune_model(model, criterion, pruning_pct=pct, seed=seed)
    scores = score_model(model, criterion, seed=seed)
    expected = masked(model, scores, pruned.config.intermediate_size)
    # bfloat16 keeps 8 bits and the two sums run in different orders; float32 agrees to rounding.
    torch.testing.assert_close(logits(pruned), logits(expected), **TOLERANCE[dtype])


def test_masking_other_neurons_does_not_pass(llama):
    # The property above can fail: the wrong neurons give other logits.
    scores = score_model(llama)
    wrong = masked(llama, {name: -score for name, score in scores.items()}, 44)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(
            logits(prune_model(llama, pruning_pct=50)), logits(wrong), **TOLERANCE[torch.float32]
        )


def test_reversed_ppm_keeps_what_ppm_removes_first(llama):
    kept, removed = (prune_model(llama, name, pruning_pct=50) for name in ("PPM", "PPM-REVERSED"))
    rows = [model.model.layers[0].mlp.up_proj.weight for model in (llama, kept, removed)]
    sets = [{tuple(row.tolist()) for row in matrix} for matrix in rows]
    assert sets[1] | sets[2] == sets[0] and not sets[1] & sets[2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("criterion", ["PPM", "VOW", "PON", "L2"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "gemma"])
def test_same_neurons_as_optipfair(family, criterion, dtype):
    for pct in PAPER_PCTS:
        model = tiny_model(family, dtype, seed=pct)
        ours = prune_model(model, criterion, pruning_pct=pct)
        theirs = optipfair_prune(
            copy.deepcopy(model),
            neuron_selection_method=criterion,
            pruning_percentage=pct,
            show_progress=False,
        )
        assert ours.config.intermediate_size == theirs.config.intermediate_size
        for (name, a), (_, b) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
            assert torch.equal(a, b), f"{name} at {pct}%"
        assert torch.equal(logits(ours), logits(theirs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("criterion", ["PPM", "VOW", "PON", "L2"])
def test_same_neurons_as_optipfair_on_smollm2(smollm2, criterion, dtype):
    # Real weights tie: few distinct 16-bit extremes make PPM scores collide, and the reference breaks
    # such ties in no stated order. So: every neuron above the tie is kept by both, none below by either.
    for mlp in find_mlps(smollm2)[::3]:
        gate, up = (weight.to(dtype) for weight in input_weights(smollm2, mlp))
        scores = score_neurons(gate, up, criterion)
        numbered = marked(smollm2.get_submodule(mlp.name), dtype)
        for pct in PAPER_PCTS:
            size = 1536 - int(1536 * pct / 100)
            down = prune_neuron_pairs(numbered, pct, IMPORTANCE_FUNCTIONS[criterion])[2]
            theirs = set(down.weight[0].long().tolist())
            ours = set(kept_indices(scores, size).tolist())
            assert len(theirs) == len(ours) == size
            threshold = scores.sort(descending=True).values[size - 1]
            assert {scores[j].item() for j in ours ^ theirs} <= {threshold.item()}, f"{mlp.name} at {pct}%"
            if criterion != "PPM":
                assert ours == theirs, f"{mlp.name} at {pct}%"


def marked(mlp, dtype):
    """A copy whose ``down_proj`` holds the neurons' numbers, which the reference carries through its own slicing."""
    mlp = copy.deepcopy(mlp).to(dtype)
    mlp.down_proj = nn.Linear(mlp.down_proj.in_features, 1, bias=False)
    mlp.down_proj.weight.data = torch.arange(mlp.down_proj.in_features, dtype=torch.float64)[None]
    # The reference returns down_proj in the gate's dtype; float64 for all keeps the marks exact.
    return mlp.double()


def test_same_logits_as_optipfair_on_smollm2(smollm2):
    # With the ties taken apart by noise far below the weights' precision, nothing is left to chance.
    # A third of the layers, which are all alike.
    untied = pruning.shallow_model(smollm2)
    untied.model.layers = untied.model.layers[:10]
    untied.config.num_hidden_layers = 10
    untied = copy.deepcopy(untied).float()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for mlp in find_mlps(untied):
            for weight in input_weights(untied, mlp):
                weight += 1e-4 * torch.randn(weight.shape, generator=generator)
    for pct in (10, 40, 60):
        theirs = optipfair_prune(
            copy.deepcopy(untied), neuron_selection_method="PPM", pruning_percentage=pct, show_progress=False
        )
        ours = prune_model(untied, pruning_pct=pct)
        for (name, a), (_, b) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
            assert torch.equal(a, b), f"{name} at {pct}%"
        assert torch.equal(logits(ours), logits(theirs)), f"{pct}%"


def test_save_and_reload_gives_identical_logits(any_model, tmp_path):
    pruned = prune_model(any_model, pruning_pct=40)
    pruned.save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert reloaded.config.intermediate_size == 88 - 35
    assert torch.equal(logits(reloaded), logits(pruned))


def numbers(model):
    """What the modules say of themselves: ``out_features`` and the like, as text, in which 53.0 is not 53."""
    return {
        name: {key: repr(value) for key, value in vars(module).items() if isinstance(value, int | float)}
        for name, module in model.named_modules()
    }


# Of 32 neurons each matrix has two sides of one length, of which one is to change.
@pytest.mark.parametrize("neurons", [88, 32])
@pytest.mark.parametrize("family", CONFIGS)
def test_modules_and_config_tell_the_truth(family, neurons):
    pruned = prune_model(tiny_model(family, intermediate_size=neurons), expansion_ratio=0.75)
    assert pruned.config.intermediate_size == 24
    assert numbers(pruned) == numbers(tiny_model(family, intermediate_size=24))
    for mlp in find_mlps(pruned):
        module = pruned.get_submodule(mlp.name)
        assert module.gate_proj.weight.shape == module.up_proj.weight.shape == (24, 32)
        assert module.down_proj.weight.shape == (32, 24)
        assert (
            module.gate_proj.out_features == module.up_proj.out_features == module.down_proj.in_features == 24
        )


def test_not_in_place_shares_what_it_does_not_touch(any_model):
    before = {name: tensor.clone() for name, tensor in any_model.state_dict().items()}
    pruned = prune_model(any_model, pruning_pct=50)
    assert any_model.config.intermediate_size == 88
    for name, tensor in any_model.state_dict().items():
        assert torch.equal(tensor, before[name])
    mine, theirs = dict(any_model.named_parameters()), dict(pruned.named_parameters())
    for name in mine:
        touched = ".mlp." in name and not name.endswith("down_proj.bias")
        assert (mine[name] is theirs[name]) != touched, name


def test_in_place_changes_the_model_itself(llama):
    expected = logits(prune_model(llama, pruning_pct=30))
    assert prune_model(llama, pruning_pct=30, inplace=True) is llama
    assert llama.config.intermediate_size == 62
    assert torch.equal(logits(llama), expected)


def test_the_core_cuts_a_copy_to_the_neuron_unless_asked(llama):
    assert pruning.prune_model(llama, pruning_pct=37.5).config.intermediate_size == 55
    assert llama.config.intermediate_size == 88


def test_zero_percent_is_the_same_model(llama):
    assert torch.equal(logits(prune_model(llama, pruning_pct=0)), logits(llama))


def test_scores_serve_a_whole_sweep(llama):
    scores = score_model(llama, "VOW")
    for pct in PAPER_PCTS:
        ours = prune_model(llama, pruning_pct=pct, scores=scores)
        assert torch.equal(logits(ours), logits(prune_model(llama, "VOW", pruning_pct=pct)))


def test_random_depends_on_seed_and_layer(llama):
    first, second = score_model(llama, "RANDOM", seed=0), score_model(llama, "RANDOM", seed=1)
    layers = list(first)
    assert not torch.equal(first[layers[0]], first[layers[1]])
    assert not torch.equal(first[layers[0]], second[layers[0]])


def test_tied_embeddings_stay_tied(tmp_path):
    model = tiny_model("llama", tie_word_embeddings=True)
    pruned = prune_model(model, pruning_pct=40)
    assert pruned.lm_head.weight is pruned.model.embed_tokens.weight is model.lm_head.weight


# Cutting knows indices only.


@pytest.mark.parametrize("first", [[2, 3, 5, 7, 11], [0], [85]], ids=str)
def test_any_neurons_may_be_kept(llama, first):
    kept = {mlp.name: torch.tensor(first) + i for i, mlp in enumerate(find_mlps(llama))}
    cut = cut_model(llama, kept)
    assert cut.config.intermediate_size == len(first) and llama.config.intermediate_size == 88
    for mlp, own in zip(find_mlps(llama), kept.values(), strict=True):
        for part in mlp.parts:
            expected = llama.get_parameter(part.tensor).index_select(part.axis, own)
            assert torch.equal(cut.get_parameter(part.tensor), expected)


def test_every_expert_may_keep_its_own():
    model = tiny_family("mixtral")
    mlps = find_mlps(model)
    own = torch.stack([torch.arange(8) + 20 * expert for expert in range(4)])
    cut = cut_model(model, {mlp.name: own + i for i, mlp in enumerate(mlps)})
    assert cut.config.intermediate_size == 8 and logits(cut).isfinite().all()
    assert numbers(cut) == numbers(tiny_family("mixtral", intermediate_size=8))
    for i, (mlp, smaller) in enumerate(zip(mlps, find_mlps(cut), strict=True)):
        assert (smaller.experts, smaller.size) == (4, 8)
        for expert in range(4):
            pairs = zip(input_weights(cut, smaller, expert), input_weights(model, mlp, expert), strict=True)
            assert all(torch.equal(found, whole[own[expert] + i]) for found, whole in pairs)
            found, whole = (part_of(each, of.output, expert) for each, of in ((cut, smaller), (model, mlp)))
            assert torch.equal(found, whole[:, own[expert] + i])
    for wrong in (own[:3], own[0], own[:, None]):
        with pytest.raises(WidthPruneError, match="kept must hold, for "):
            cut_model(model, {mlp.name: wrong for mlp in mlps})


def test_what_is_chosen_by_score_is_what_pruning_keeps(any_model):
    kept = choose_neurons(any_model, score_model(any_model, "L2"), target_sizes(any_model, pruning_pct=40))
    expected = prune_model(any_model, "L2", pruning_pct=40).state_dict()
    found = cut_model(any_model, kept, inplace=True).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_sizes_that_the_config_cannot_tell_are_cut_and_not_saved(llama, tmp_path):
    kept = {mlp.name: torch.arange(5 + i) for i, mlp in enumerate(find_mlps(llama))}
    cut = cut_model(llama, kept)
    assert [mlp.up_proj.out_features for mlp in (layer.mlp for layer in cut.model.layers)] == [5, 6, 7]
    assert cut.config.intermediate_size == [5, 6, 7] and logits(cut).isfinite().all()
    with pytest.raises(WidthPruneError, match="LlamaConfig has one intermediate_size for all layers"):
        cut.save_pretrained(tmp_path / "out")


@pytest.mark.parametrize(
    "wrong",
    [[], [3, 2], [2, 2], [-1, 2], [2, 88], [2, 89], [0.0, 1.0], [[0, 1]], None, torch.arange(0)],
    ids=str,
)
def test_neurons_that_do_not_fit_are_refused(llama, wrong):
    kept = {mlp.name: torch.arange(5) for mlp in find_mlps(llama)}
    last = list(kept)[-1]
    kept.pop(last) if wrong is None else kept.update({last: torch.as_tensor(wrong)})
    with pytest.raises(WidthPruneError, match=f"kept must hold, for {last}, ascending numbers .* 88 neurons"):
        cut_model(llama, kept, inplace=True)
    assert llama.config.intermediate_size == 88 and llama.model.layers[0].mlp.up_proj.out_features == 88


@pytest.mark.parametrize(
    "changes",
    [{"intermediate_size": 52}, {"intermediate_size": 54}, {"num_hidden_layers": 2}, {"mlp_bias": True}],
    ids=str,
)
def test_a_config_from_which_another_model_is_built_is_refused(llama, changes, monkeypatch):
    monkeypatch.setattr(pruning, "twin", lambda *_: tiny_model(**({"intermediate_size": 53} | changes)))
    refused(llama, "LlamaForCausalLM: from the pruned config transformers builds .*: it cannot be pruned")


def test_the_core_knows_no_variant(llama):
    """Neither by an import, nor by pruning without the bias that a criterion promises."""
    assert not [name for name in imported(PACKAGE, "pruning") if name.startswith("variants")]
    with pytest.raises(WidthPruneError, match="FLAP-BIAS adds a bias .*: use widthprune.prune_model"):
        pruning.prune_model(llama, "FLAP-BIAS", pruning_pct=40)


def test_the_method_is_short():
    """A newcomer finds the paper's method in the body of one function."""
    (function,) = (
        node
        for node in ast.parse(inspect.getsource(pruning)).body
        if isinstance(node, ast.FunctionDef) and node.name == "prune_model"
    )
    assert function.end_lineno - function.body[1].lineno < 25


# Bad input: one line, and the model as it was.


def refused(model, match, **arguments):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WidthPruneError, match=match) as error:
        prune_model(model, inplace=True, **({"pruning_pct": 40} | arguments))
    assert "\n" not in str(error.value)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], equal_nan=True, rtol=0, atol=0)


def test_bad_arguments(llama):
    refused(llama, r"pruning_pct must be in \[0, 100\), got 120", pruning_pct=120)
    refused(llama, r"expansion_ratio must be in \(0, 2.7500\], .* got 3", pruning_pct=None, expansion_ratio=3)
    refused(llama, "got both", expansion_ratio=2)
    refused(llama, "got neither", pruning_pct=None)
    refused(llama, "criterion must be one of", criterion="SUM")
    refused(llama, "scores must come from score_model", scores={})


@pytest.mark.parametrize("projection", ["gate_proj", "up_proj", "down_proj"])
def test_nan_weights_in_the_last_layer(llama, projection):
    with torch.no_grad():
        getattr(llama.model.layers[-1].mlp, projection).weight[3, 4] = float("nan")
    refused(llama, "model.layers.2.mlp.*must be finite, got NaN")


def test_a_model_without_mlp():
    config = MambaConfig(hidden_size=8, num_hidden_layers=1, vocab_size=20)
    refused(MambaForCausalLM(config), "MambaForCausalLM has no MLP of a known layout")


def test_gate_and_up_that_differ_in_size(llama):
    llama.model.layers[1].mlp.up_proj = nn.Linear(32, 80, bias=False)
    refused(llama, "model.layers.1.mlp: .* must share one intermediate size, got shapes")


def test_mlps_of_several_sizes(llama):
    mlp = llama.model.layers[1].mlp
    mlp.gate_proj, mlp.up_proj, mlp.down_proj = nn.Linear(32, 80), nn.Linear(32, 80), nn.Linear(80, 32)
    refused(llama, r"says intermediate_size 88, but model.layers.1.mlp has 80 neurons")


def test_quantized_weights(llama):
    llama.model.layers[0].mlp.gate_proj.weight = nn.Parameter(
        torch.zeros(88, 32, dtype=torch.int8), requires_grad=False
    )
    refused(llama, "model.layers.0.mlp.gate_proj.weight holds torch.int8 weights")


def test_a_quantized_config(llama):
    llama.config.quantization_config = BitsAndBytesConfig(load_in_8bit=True)
    refused(llama, "LlamaForCausalLM is quantized")


def test_weights_on_the_meta_device():
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIGS["llama"]())
    with pytest.raises(WidthPruneError, match="no weights in memory"):
        prune_model(model, pruning_pct=10)


def test_an_adapter_is_refused(llama):
    class Adapter(nn.Linear):
        pass

    llama.model.layers[0].mlp.up_proj = Adapter(32, 88, bias=False)
    refused(llama, "model.layers.0.mlp.up_proj is Adapter, not nn.Linear")
