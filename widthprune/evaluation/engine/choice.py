"""Which class reads a model for lm-eval: ours, where it reads as lm-eval's own does, or lm-eval's own.

`PrefixLM` reads a text in parts, after what other texts share with it, several of them padded, and side
by side. That gives lm-eval's numbers only where a token's keys and values depend on nothing but what
stands before it, and a text leaves nothing behind. Both are asked of the model: its config says what a
short text cannot show (`objection`), two short texts show the rest (`difference`).
"""

import contextlib
import io
import re
import sys

import numpy as np
import torch
from lm_eval.api.instance import Instance
from torch import nn
from tqdm.auto import tqdm
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from ...errors import COPY_AGAIN, WidthPruneError, first_line, in_one_line
from .stock import StockLM

# Rotary angles that follow from a token's place alone; "dynamic" and "longrope" look at the whole text.
ROTARY = {"default", "linear", "yarn", "llama3", "proportional", "mrope"}
LAYERS = {"full_attention", "sliding_attention"}
# Limits of sight that a short text does not reach. Sliding windows are known, these are their relatives.
LIMITS = re.compile(r"window|chunk|local_att|block_size|index_topk|sparse")
KNOWN = {"sliding_window", "use_sliding_window", "max_window_layers", "chunk_size_feed_forward"}
KNOWN |= {"sliding_window_pattern", "_sliding_window_pattern"}

CONTEXT = "Water is wet.\n"
ASKED = [
    (f"{CONTEXT}{question}", answer)
    for question, answers in {"Old snow is": [" rather cold", " not"], "Is": [" it so", " a thing"]}.items()
    for answer in answers
]
PROMPTS = list(dict.fromkeys(context for context, _ in ASKED))
STEPS = 3  # tokens generated


def choose(model: nn.Module, tokenizer, **options) -> type[StockLM]:
    """`PrefixLM`, or `StockLM` for a model that it would not read as lm-eval does, with one line that says why.

    Parameters
    ----------
    model, tokenizer : PreTrainedModel, PreTrainedTokenizerBase
    **options
        Of `HFLM`, as the model will be evaluated with.

    Returns
    -------
    type
        To be called as `HFLM` is. Choosing costs the reading of about eighty tokens.

    Raises
    ------
    WidthPruneError
        If lm-eval's own class fails on the texts, too.
    """
    try:
        from .prefix_lm import PrefixLM

        with contextlib.redirect_stdout(io.StringIO()):  # lm-eval prints empty lines
            why = objection(model) or difference(PrefixLM, model, tokenizer, **options)
    # Whatever a model or a version of a library does otherwise than ours expects, lm-eval's own has.
    except Exception as error:
        why = f"ours fails on it ({type(error).__name__}: {first_line(error)})"
    if not why:
        return PrefixLM
    check_stock(model, tokenizer, **options)
    tqdm.write(f"{type(model).__name__} is read by lm-eval's own class, slower: {why}", file=sys.stderr)
    return StockLM


def check_stock(model: nn.Module, tokenizer, **options) -> None:
    """Refuse, in one line, a model that lm-eval's own class cannot read or let write."""
    fails = f"{type(model).__name__} cannot be evaluated: lm-eval fails on a short text"
    # Odd fields of a config or a generation config end deep within the libraries, in errors of any kind. A tokenizer
    # that cannot score the probe's texts says nothing about the task's.
    with (
        in_one_line(fails, COPY_AGAIN),
        contextlib.suppress(WidthPruneError),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        # Whatever length is asked for: the model's own decides what it can read.
        stock = StockLM(pretrained=model, tokenizer=tokenizer, **options | {"max_length": None})
        _likelihoods(stock, [Instance("loglikelihood", {}, text, i) for i, text in enumerate(ASKED)])
        _texts(stock)


def objection(model: nn.Module) -> str:
    """Why the model's config forbids reading in parts; "" if it does not."""
    if getattr(model.config, "_attn_implementation", None) != "sdpa":
        return "its attention is not torch's scaled dot products"
    config = model.config.get_text_config(decoder=True)
    layers = {type(layer) for layer in DynamicCache(config=model.config).layers}
    if other := layers - {DynamicLayer, DynamicSlidingWindowLayer}:
        return f"its cache holds more than keys and values ({_names(kind.__name__ for kind in other)})"
    if other := set(getattr(config, "layer_types", None) or ()) - LAYERS:
        return f"it has layers of other kinds ({_names(other)})"
    if other := set(_rotary(config)) - ROTARY:
        return f"its rotary angles depend on the length of a text ({_names(other)})"
    if other := [name for name, value in config.to_dict().items() if _limits(name, value)]:
        return f"its sight is limited in another way than by a sliding window ({_names(other)})"
    return ""


def _names(names) -> str:
    return ", ".join(sorted(map(str, names)))


def _rotary(config):
    """The kinds of rotary angles that a config names, one for all layers or one for each kind of layer."""
    for field in ("rope_parameters", "rope_scaling"):
        given = getattr(config, field, None) or {}
        for each in (given, *given.values()):
            if isinstance(each, dict) and (kind := each.get("rope_type") or each.get("type")):
                yield kind


def _limits(name: str, value) -> bool:
    return bool(LIMITS.search(name)) and name not in KNOWN and isinstance(value, int) and value > 1


def difference(ours: type, model: nn.Module, tokenizer, **options) -> str:
    """What differs between ``ours`` and `StockLM` on short texts beyond rounding; "" if nothing does."""
    options = dict(pretrained=model, tokenizer=tokenizer, softmax_dtype="float32") | options
    stock, ours = StockLM(**options), ours(**options)
    ours.min_shared = 4  # the texts are short
    asked = [Instance("loglikelihood", {}, text, i) for i, text in enumerate(ASKED)]
    expected = _likelihoods(stock, asked)
    before = _state(model)
    found = _likelihoods(ours, asked)
    # A model may be damaged so far that it has no numbers; infinite ones are equal, too.
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    off = np.where(same, 0, abs(found - expected))
    if _state(model) != before:
        return "it keeps something of one text for the next"
    tokens = np.array([len(tokenizer(answer)["input_ids"]) for _, answer in ASKED])
    # In 16 bits lm-eval's own numbers move with its batches by a step of a logit or two, here 0.1.
    tolerance = tokens * 4 * torch.finfo(model.dtype).eps ** 0.5
    if not (off <= tolerance).all():
        return f"ours differs by {off.max():.2g} in a log-likelihood"
    return _generated(stock, ours, tolerance.max())


def _likelihoods(lm, asked) -> np.ndarray:
    return np.array([value for value, _ in lm.loglikelihood(asked, disable_tqdm=True)])


def _generated(stock, ours, tolerance: float) -> str:
    """As `difference`, of greedy generation; of nearly tied tokens either is right."""
    for prompt, *texts in zip(PROMPTS, _texts(stock), _texts(ours), strict=True):
        if texts[0] == texts[1]:
            continue
        if "" in texts:
            return "ours generates another text"
        own = _likelihoods(stock, [Instance("loglikelihood", {}, (prompt, text), 0) for text in texts])
        if not abs(own[0] - own[1]) <= STEPS * tolerance:
            return "ours generates another text"
    return ""


def _texts(lm) -> list[str]:
    how = {"until": [], "max_gen_toks": STEPS, "do_sample": False}
    asked = [Instance("generate_until", {}, (prompt, dict(how)), i) for i, prompt in enumerate(PROMPTS)]
    return lm.generate_until(asked, disable_tqdm=True)


def _state(model: nn.Module) -> list:
    """What a model holds besides its parameters, so that one can see whether reading changes it."""
    buffers = [(name, each.data_ptr(), each._version) for name, each in model.named_buffers()]
    plain = (bool, int, float, str, type(None), torch.Tensor)
    fields = [
        (name, key, id(value) if isinstance(value, torch.Tensor) else value)
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, plain)
    ]
    return buffers + fields
