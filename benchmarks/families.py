"""Every decoder class of transformers, tiny and random: does the engine read it as lm-eval's own class does?

    python benchmarks/families.py [--only llama gemma3_text ...] [--forced]

Prints a row a class: the engine that `widthprune.evaluation.engine.choice.choose` takes, the largest difference to lm-eval's
`HFLM` in log-likelihoods (with shared prefixes) and perplexities of texts longer than every window,
whether greedy generation agrees, and the reason where lm-eval's own class is taken or no tiny model can be
built. Wrong numbers end in exit 1. ``--forced`` shows what our engine would give where it is not taken.
"""

import argparse
import contextlib
import io
import logging
import sys
import warnings
from pathlib import Path

import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from widthprune.errors import WidthPruneError, first_line
from widthprune.evaluation.engine import prefix_lm
from widthprune.evaluation.engine.choice import StockLM, choose
from widthprune.evaluation.engine.prefix_lm import PrefixLM

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from families import byte_tokenizer, tiny_decoder  # noqa: E402

SHOTS = "Question: is water wet?\nAnswer: yes\n\nQuestion: is fire cold?\nAnswer: no\n\n"
TEXTS = [
    *[(f"{SHOTS}Question: is {thing} old?\nAnswer:", answer)
      for thing in ("the sun", "a", "tea") for answer in (" yes", " no", " it depends on the observer")],
    ("alone", " in a group without a prefix"),
    ("", " an empty context"),
]  # fmt: skip
PROMPTS = [*dict.fromkeys(context for context, _ in TEXTS if context)]
ROLLING = ["a sentence that goes on " * 8, "a short one"]
TOLERANCE = 2e-3  # float32 sums over up to 200 tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="TYPE", help="model types, default all")
    parser.add_argument("--forced", action="store_true", help="read everything with our engine as well")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    logging.disable(logging.ERROR)
    # Perplexities in several pieces, as long texts of large vocabularies are read.
    prefix_lm.LOGITS = 50 * 300
    counts = {}
    print("| model type | engine | largest difference | generation | why |\n|---|---|---|---|---|")
    for config in dict.fromkeys(transformers.MODEL_FOR_CAUSAL_LM_MAPPING):
        if not options.only or config.model_type in options.only:
            engine, *row = outcome(config, options.forced)
            counts[engine] = counts.get(engine, 0) + 1
            print(f"| {config.model_type} | {engine} | {' | '.join(row)} |", flush=True)
    print(", ".join(f"{count} {engine}" for engine, count in counts.items()))
    sys.exit("WRONG" in counts)


def outcome(config, forced):
    """(engine, largest difference, agreement of generation, reason) of one class, each as text."""
    try:
        model = tiny_decoder(config)
    except Exception as error:
        return "not built", "", "", f"{type(error).__name__}: {first_line(error)[:100]}"
    said, tokenizer = io.StringIO(), byte_tokenizer()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            kind = choose(model, tokenizer)
        except WidthPruneError as error:
            return StockLM.engine, "", "", f"HFLM fails: {first_line(error)[:120]}"
        lines = [line for line in said.getvalue().splitlines() if "lm-eval's own" in line]
        why = lines[0].partition("slower: ")[2] if lines else ""
        try:
            expected = numbers(HFLM, model, tokenizer)
        except Exception as error:
            return kind.engine, "", "", f"HFLM fails: {first_line(error)[:60]}; {why[:60]}"
        try:
            found = numbers(PrefixLM if forced else kind, model, tokenizer)
        except Exception as error:
            return kind.engine, "", "", f"fails: {first_line(error)[:60]}; {why[:60]}"
    largest = (found[0] - expected[0]).abs().max().item()
    same = found[1] == expected[1]
    right = largest < TOLERANCE and same
    engine = kind.engine if right or kind is not PrefixLM else "WRONG"
    return engine, f"{largest:.1e}", "same" if same else "differs", why[:110]


def numbers(kind, model, tokenizer):
    """(log-likelihoods and perplexities, generated texts)."""
    lm = kind(pretrained=model, tokenizer=tokenizer, batch_size=4, softmax_dtype="float32")
    asked = [Instance("loglikelihood", {}, text, i) for i, text in enumerate(TEXTS)]
    values = [value for value, _ in lm.loglikelihood(asked, disable_tqdm=True)]
    asked = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(ROLLING)]
    values += lm.loglikelihood_rolling(asked, disable_tqdm=True)
    how = {"until": [], "max_gen_toks": 24, "do_sample": False}
    lm = kind(pretrained=model, tokenizer=tokenizer, batch_size=1, softmax_dtype="float32")
    asked = [Instance("generate_until", {}, (text, dict(how)), i) for i, text in enumerate(PROMPTS)]
    return torch.tensor(values), lm.generate_until(asked, disable_tqdm=True)


if __name__ == "__main__":
    main()
