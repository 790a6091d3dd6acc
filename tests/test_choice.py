"""What our engine may read, and that all else goes to lm-eval's own class with one line that says why."""

import time

import pytest
import torch
import transformers
from conftest import tiny_model
from families import byte_tokenizer, tiny_decoder
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from packaging.version import Version
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from transformers import CONFIG_MAPPING, PreTrainedTokenizerFast

from widthprune import WidthPruneError
from widthprune.evaluation.engine.choice import check_stock, choose, difference, objection
from widthprune.evaluation.engine.prefix_lm import PrefixLM
from widthprune.evaluation.engine.stock import StockLM

# Newer versions of transformers have a cache of its own for linear attention.
LINEAR = "its cache holds more than keys and values (Linear"
if not any(name.startswith("Linear") for name in vars(transformers.cache_utils)):
    LINEAR = "it has layers of other kinds (linear_attention)"
BIG = dict(vocab_size=300, max_position_embeddings=512)
LONG = dict(rope_type="longrope", short_factor=[1.0] * 4, long_factor=[2.0] * 4, rope_theta=10000.0)
ROPE = {
    "dynamic": dict(rope_type="dynamic", factor=2.0, rope_theta=10000.0),
    "longrope": LONG | dict(original_max_position_embeddings=64, factor=8.0),
    "yarn": dict(rope_type="yarn", factor=2.0, original_max_position_embeddings=64, rope_theta=10000.0),
    "linear": dict(rope_type="linear", factor=2.0, rope_theta=10000.0),
}
SHOTS = "Question: is water wet?\nAnswer: yes\n\nQuestion: is fire cold?\nAnswer: no\n\n"
TEXTS = [
    (f"{SHOTS}Is {thing} old?", answer) for thing in ("the sun", "a") for answer in (" yes", " it depends")
]


def said(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if "lm-eval's own class" in line]


def outcome(kind, model):
    lm = kind(pretrained=model, tokenizer=byte_tokenizer(), batch_size=4, softmax_dtype="float32")
    asked = [Instance("loglikelihood", {}, text, i) for i, text in enumerate(TEXTS)]
    values = [value for value, _ in lm.loglikelihood(asked, disable_tqdm=True)]
    values += lm.loglikelihood_rolling(
        [Instance("loglikelihood_rolling", {}, (SHOTS,), 0)], disable_tqdm=True
    )
    prompts = [(text, {"until": [], "max_gen_toks": 16}) for text, _ in TEXTS[::2]]
    asked = [Instance("generate_until", {}, prompt, i) for i, prompt in enumerate(prompts)]
    return values, lm.generate_until(asked, disable_tqdm=True)


# Every text here is longer than every window, chunk and first length of a rotary scheme.
@pytest.mark.parametrize(
    ("family", "changes", "engine"),
    [
        ("llama", {}, "prefix"),
        ("llama", {"rope_parameters": ROPE["linear"]}, "prefix"),
        ("llama", {"rope_parameters": ROPE["yarn"]}, "prefix"),
        ("llama", {"rope_parameters": ROPE["dynamic"], "max_position_embeddings": 128}, "stock"),
        ("phi3", {}, "prefix"),
        ("phi3", {"rope_parameters": ROPE["longrope"], "max_position_embeddings": 512}, "stock"),
        ("mistral", {"sliding_window": 8}, "prefix"),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 8}, "prefix"),
        ("gemma3_text", {}, "prefix"),
        ("gpt2", {}, "prefix"),
        ("gpt_neox", {}, "prefix"),
        ("mixtral", {}, "prefix"),
        ("gemma2", {}, "stock"),  # caps the scores
        ("gpt_oss", {}, "stock"),  # adds a sink
        ("bloom", {}, "stock"),  # biases by distance
        ("mpt", {}, "stock"),
        ("falcon", {"alibi": True}, "stock"),
        ("llama4_text", {"attention_chunk_size": 16}, "stock"),
        ("mamba", {}, "stock"),
        ("bamba", {}, "stock"),
        ("deepseek_v3", {}, "stock"),
    ],
)  # fmt: skip
def test_equal_numbers_or_lm_evals_own_class(family, changes, engine, capsys):
    model = tiny_decoder(CONFIG_MAPPING[family], **changes)
    kind = choose(model, byte_tokenizer())
    assert kind.engine == engine
    assert len(said(capsys)) == (engine == "stock")
    if engine == "prefix":  # the other is HFLM
        (values, texts), (expected, texts_expected) = (outcome(each, model) for each in (kind, HFLM))
        assert values == pytest.approx(expected, abs=2e-3) and texts == texts_expected


# One line a kind of config that no text of ten words could tell from a plain one.
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(rope_parameters={"rope_type": "dynamic"}), "depend on the length of a text (dynamic)"),
        (dict(rope_parameters={"full_attention": {"rope_type": "longrope"}}), "length of a text (longrope)"),
        (dict(rope_scaling={"type": "unheard-of"}), "depend on the length of a text (unheard-of)"),
        (dict(layer_types=["chunked_attention"] * 3, attention_chunk_size=8), "chunked_attention"),
        (dict(layer_types=["linear_attention"] * 3), LINEAR),
        (dict(attention_chunk_size=8192), "another way than by a sliding window (attention_chunk_size)"),
        (dict(attention_window=[512]), ""),  # a list a layer is not a number
        (dict(local_attention=128), "local_attention"),
        (dict(index_topk=2048), "index_topk"),
        (dict(sliding_window=None), ""),
    ],
)  # fmt: skip
def test_what_a_config_says_against_it(change, reason):
    model = tiny_model(**BIG)
    for field, value in change.items():
        setattr(model.config, field, value)
    assert reason in objection(model) and bool(reason) == bool(objection(model))


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        # (module of the model, what its output becomes)
        (("lm_head", lambda out: out * (1 + 0.01 * out.shape[1])), "in a log-likelihood"),
        (("model.layers.1", lambda out: out + 0.1 * out.mean(dim=1, keepdim=True)), "in a log-likelihood"),
    ],
)
def test_what_depends_on_the_length_read_is_found_by_reading(breaks, reason):
    model = tiny_model(**BIG)
    place, change = breaks
    model.get_submodule(place).register_forward_hook(lambda _, args, out: change(out))
    assert objection(model) == "" and reason in difference(PrefixLM, model, byte_tokenizer())


def test_what_stays_behind_after_a_text_is_found():
    model = tiny_model(**BIG)
    model.texts = 0
    model.register_forward_pre_hook(lambda module, args: setattr(module, "texts", module.texts + 1))
    assert "keeps something of one text" in difference(PrefixLM, model, byte_tokenizer())


def test_other_generation_is_found():
    class Wrong(PrefixLM):
        def generate_until(self, requests, disable_tqdm=False):
            return [text[::-1] + "!" for text in super().generate_until(requests, disable_tqdm)]

    assert difference(Wrong, tiny_model(**BIG), byte_tokenizer()) == "ours generates another text"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen2"])
def test_rounding_is_no_difference(family, dtype):
    found = difference(PrefixLM, tiny_model(family, dtype=dtype, **BIG), byte_tokenizer())
    # Half precision of torch 2.6 rounds more on a CPU: there lm-eval's own class may be chosen without need.
    coarse = dtype == torch.float16 and Version(torch.__version__) < Version("2.7")
    assert not found or (coarse and found == "ours generates another text")


# What is private or new in transformers and lm-eval: were it gone, the way out is lm-eval's own class.
@pytest.mark.parametrize(
    "gone",
    [
        ("transformers.configuration_utils.PreTrainedConfig", "_attn_implementation"),
        ("transformers.PreTrainedModel", "set_attn_implementation"),
        ("transformers.PreTrainedModel", "get_output_embeddings"),
        ("transformers.DynamicCache", "get_seq_length"),
        ("transformers.cache_utils.DynamicLayer", "batch_select_indices"),
        ("lm_eval.models.huggingface.HFLM", "tok_batch_encode"),
        ("widthprune.evaluation.engine.prefix_lm", "PrefixLM"),
        ("widthprune.evaluation.engine.prefix_lm", "normalize_gen_kwargs"),
        ("widthprune.evaluation.engine.prefix_lm", "postprocess_generated_text"),
        ("widthprune.evaluation.engine.prefix_lm", "handle_stop_sequences"),
        ("widthprune.evaluation.engine.choice.torch.Tensor", "_version"),
    ],
)
def test_the_way_out_where_a_name_is_gone(gone, monkeypatch, capsys):
    where, name = gone
    model, tokenizer = tiny_model(**BIG), byte_tokenizer()

    def absent(*args, **kwargs):
        raise AttributeError(name)

    if where.startswith("widthprune.evaluation.engine.prefix_lm") and name == "PrefixLM":
        monkeypatch.delattr(f"{where}.{name}")
    else:
        monkeypatch.setattr(f"{where}.{name}", property(absent) if name.startswith("_") else absent)
    # The imitation takes the name from lm-eval's own class as well, where a library would have another.
    monkeypatch.setattr("widthprune.evaluation.engine.choice.check_stock", lambda *_, **__: None)
    assert choose(model, tokenizer) is StockLM
    assert len(said(capsys)) == 1


@pytest.mark.parametrize("fields", [{"stop_strings": ["e"]}, {"eos_token_id": "</s>"}])
@pytest.mark.parametrize("choosing", [choose, check_stock])
def test_a_model_that_nobody_can_let_write_is_refused_in_one_line(fields, choosing):
    model = tiny_model(**BIG)
    vars(model.generation_config).update(fields)
    with pytest.raises(WidthPruneError, match="LlamaForCausalLM cannot be evaluated") as error:
        choosing(model, byte_tokenizer())
    assert "\n" not in str(error.value)


def test_a_model_that_cannot_be_read_is_refused_in_one_line():
    def fails(module, inputs):
        raise IndexError("an odd field of its config")

    model = tiny_model("mistral", **BIG)
    model.model.register_forward_pre_hook(fails)
    with pytest.raises(WidthPruneError, match="MistralForCausalLM cannot be evaluated.*an odd field"):
        choose(model, byte_tokenizer())


def test_the_probe_is_short():
    model, tokenizer = tiny_model(**BIG), byte_tokenizer()
    read = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _, args: read.append(args[0].numel()))
    start = time.perf_counter()
    assert choose(model, tokenizer) is PrefixLM
    assert sum(read) < 800 and time.perf_counter() - start < 5  # a token a byte; words take a quarter


def test_a_tokenizer_without_words_is_told_without_a_task(capsys):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()), bos_token="<s>", eos_token="<s>")
    assert choose(tiny_model(**BIG), tokenizer) is StockLM
    assert (
        "(WidthPruneError: a short text cannot be scored, since its answer ' rather cold'"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("kind", [StockLM, PrefixLM])
@pytest.mark.parametrize(
    ("text", "swallowed"),
    [(("the sun", ""), True), (("", ""), True), (("ab", "c"), True), (("ab", "d"), False)],
)
def test_a_token_across_the_join_names_task_and_item(kind, text, swallowed):
    # "ab" and "abc" are one token each.
    words = Tokenizer(WordLevel({"ab": 0, "abc": 1, "abd": 2, "<s>": 3, "the": 4, "sun": 5}, unk_token="<s>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="<s>")
    lm = kind(pretrained=tiny_model(**BIG), tokenizer=tokenizer, softmax_dtype="float32")
    asked = [Instance("loglikelihood", {}, text, 0, metadata=("a_task", 7, 1))]
    with pytest.raises(WidthPruneError, match="a_task: item 7 cannot be scored, since its answer"):
        lm.loglikelihood(asked, disable_tqdm=True)
