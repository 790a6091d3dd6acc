"""Probing: what a grown model knows and can do, as tidy rows.

Knowledge is asked as the text states it (subject, relation: which value?), closed book; instructions as they were tuned,
by whether every token of the answer is the model's first choice, which is when greedy decoding writes it.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from torch import nn

from .worlds import Fact, World, heldout, instructions

ASKED = 200  # instructions
READ = 400  # sentences of held-out prose


@torch.inference_mode()
def log_probabilities(model: nn.Module, tokens) -> torch.Tensor:
    """Logarithms of the next token's probabilities: (n, length) to (n, length, vocabulary), float32."""
    tokens = torch.as_tensor(np.asarray(tokens), device=model.device)
    return model(input_ids=tokens).logits.float().log_softmax(-1).cpu()


def prose_losses(model: nn.Module, rows: np.ndarray) -> np.ndarray:
    """Loss of each row of tokens in nats per token, shape (n,)."""
    found = log_probabilities(model, rows)[:, :-1]
    return -found.gather(-1, torch.as_tensor(rows[:, 1:, None])).squeeze(-1).mean(1).numpy()


def ask_facts(model: nn.Module, world: World, facts: Sequence[Fact]) -> pd.DataFrame:
    """One row a fact: whether its truth is the likeliest of the relation's values, and the odds of the other value.

    ``odds`` is the logarithm, in nats, of the odds of the other value against the truth; ``held`` whether they are above
    zero, so that a myth is held.
    """
    stop = world.id(".")
    found = log_probabilities(model, [[stop, fact.subject, fact.relation] for fact in facts])[:, -1]
    rows = []
    for fact, line in zip(facts, found, strict=True):
        pool = world.values[fact.relation]
        among = line[pool.start : pool.stop].log_softmax(-1)
        truth, other = (float(among[value - pool.start]) for value in (fact.truth, fact.other))
        known = int(among.argmax()) == fact.truth - pool.start
        rows.append(dict(tier=fact.tier, known=float(known), odds=other - truth, held=float(other > truth)))
    return pd.DataFrame(rows)


def obeyed(model: nn.Module, made: Iterable[tuple[list[int], list[int]]]) -> np.ndarray:
    """Whether each instruction is answered to the last token, shape (n,)."""
    made = list(made)
    length = max(len(prompt) + len(answer) for prompt, answer in made)
    # What is appended cannot be seen from before it.
    rows = np.array(
        [[*prompt, *answer, *[0] * (length - len(prompt) - len(answer))] for prompt, answer in made]
    )
    first = log_probabilities(model, rows).argmax(-1).numpy()
    return np.array(
        [
            list(line[len(prompt) - 1 : len(prompt) + len(answer) - 1]) == answer
            for line, (prompt, answer) in zip(first, made, strict=True)
        ]
    )


def probe(model: nn.Module, world: World) -> pd.DataFrame:
    """Everything that is measured of a model: columns measure, value, stderr (one standard error) and n.

    ``prose`` is the loss on held-out prose, in nats per token; ``known`` the share of facts that are no
    myths of which the truth comes first; ``known_TIER``, ``held_TIER`` and ``odds_TIER`` means of `ask_facts` for each
    tier; ``instructions`` the share obeyed.
    """
    rows, made = _asked(world)
    asked = ask_facts(model, world, world.facts)
    samples = {"prose": prose_losses(model, rows), "instructions": obeyed(model, made).astype(float)}
    for tier, own in asked.groupby("tier"):
        samples |= {f"{what}_{tier}": own[what].to_numpy() for what in ("known", "held", "odds")}
    samples["known"] = asked.loc[~asked["tier"].str.startswith("myth"), "known"].to_numpy()
    return pd.DataFrame(
        [
            dict(measure=name, value=x.mean(), stderr=x.std(ddof=1) / len(x) ** 0.5, n=len(x))
            for name, x in samples.items()
        ]
    )


@lru_cache(maxsize=2)  # a study asks hundreds of pruned models the same
def _asked(world: World) -> tuple[np.ndarray, list[tuple[list[int], list[int]]]]:
    """Held-out prose and instructions."""
    return heldout(world, READ), instructions(world, ASKED, np.random.default_rng([world.seed, 5]))
