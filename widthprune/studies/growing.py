"""Growing: small decoders trained on a world, with a gate and without, and a copy of each tuned on instructions.

transformers' Llama with a SwiGLU MLP, and Arcee, which is Llama with a plain MLP: nothing else differs. The plain MLP
has half as many neurons again, so that both have the same number of parameters. Who only names a recipe, to read what was
measured, imports no torch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..checkpoints.destination import moved_into_place
from ..commands.options import SEED, Number, check_several
from ..errors import WidthPruneError
from .worlds import World, corpus, instructions, make_world, usual_tiers

if TYPE_CHECKING:
    from torch import nn

KINDS = {"gated": "LlamaConfig", "plain": "ArceeConfig"}  # classes of transformers
STAGES = ("base", "tuned")
RATE = Number(float, "a learning rate above 0 and below 1", lambda rate: 0 < rate < 1)
SIZE = Number(int, "a whole number from 1 to 10000000", lambda n: 1 <= n <= 10**7)
MOST_PARAMETERS = 10**9  # of all layers: what is grown here has a thousandth of them
HEADS = 4  # of attention, each of an even number of channels
IGNORED = -100  # the label of a token that no loss is taken of


@dataclass(frozen=True)
class Recipe:
    """How a model is grown. The same recipe gives the same model on the same machine."""

    kind: str = "gated"  # or "plain"
    seed: int = 0  # of the world, the weights and the order
    hidden_size: int = 96
    layers: int = 3
    neurons: int = 256  # of each gated MLP; a plain one has half as many again
    facts: int = 48  # common ones: see `usual_tiers`
    sentences: int = 9_000  # of prose
    epochs: int = 2
    batch: int = 8  # sequences
    length: int = 64  # tokens of each
    rate: float = 4e-3  # highest learning rate
    tuning_steps: int = 300
    tuning_rate: float = 2e-3

    def __post_init__(self):
        if self.kind not in list(KINDS):  # a list, say, is in no dict
            raise WidthPruneError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        SEED.check("seed", self.seed)
        for field in fields(self)[2:]:
            (SIZE if field.type is int else RATE).check(field.name, getattr(self, field.name))
        if not 2 <= self.facts <= 10_000:
            raise WidthPruneError(
                f"facts must be from 2, of which half are looked at, to 10,000, got {self.facts}"
            )
        if self.hidden_size % (2 * HEADS):
            raise WidthPruneError(f"hidden_size must be a multiple of {2 * HEADS}, got {self.hidden_size}")
        if self.layers * _layer_count(self) > MOST_PARAMETERS:
            raise WidthPruneError(
                f"hidden_size, layers and neurons must make at most {MOST_PARAMETERS:,} parameters, got {self.hidden_size}, "
                f"{self.layers} and {self.neurons}"
            )
        if self.neurons % 2:
            raise WidthPruneError(f"neurons must be even, to match a plain MLP, got {self.neurons}")

    @property
    def name(self) -> str:
        return f"grown-{self.kind}-{self.seed}"

    @property
    def key(self) -> str:
        """The name, and what differs from the default recipe: no other recipe has it."""
        default = asdict(Recipe(self.kind, self.seed))
        changed = [f"{name}-{value}" for name, value in asdict(self).items() if value != default[name]]
        return "-".join([self.name, *changed])

    @property
    def shared(self) -> dict[str, int | float]:
        """All but kind and seed: what `widthprune.studies.stored.stored` finds a chapter's models by."""
        return {name: value for name, value in asdict(self).items() if name not in ("kind", "seed")}


def recipes_of(
    seeds: Iterable[int], *, drawn: str = "gated", named: str = "seeds", **changes: Mapping
) -> list[Recipe]:
    """A chapter's recipes: of every kind and seed, those of the kind that it draws first.

    Parameters
    ----------
    seeds : iterable of int
    drawn : str
        The chapter's parameter ``model``.
    named : str
        The chapter's parameter that holds the seeds.
    **changes : mapping
        The chapter's parameters that hold fields of `Recipe` which are not default, kind and seed left out; of two the
        later counts.

    Raises
    ------
    WidthPruneError
        In one line that begins with the parameter at fault.
    """
    seeds = check_several(named, seeds, SEED)
    if drawn not in list(KINDS):
        raise WidthPruneError(f"model must be one of {', '.join(KINDS)}, got {drawn!r}")
    known = [field.name for field in fields(Recipe)[2:]]
    changed = {}
    for parameter, asked in changes.items():
        if not isinstance(asked, Mapping) or not set(asked) <= set(known):
            raise WidthPruneError(f"{parameter} must be a mapping of {', '.join(known)}, got {asked!r}")
        changed |= asked
    kinds = sorted(KINDS, key=lambda kind: kind != drawn)
    return [Recipe(kind, seed, **changed) for kind in kinds for seed in seeds]


def parameter_count(recipe: Recipe) -> int:
    """Parameters of the recipe's models, of either kind, from the sizes alone."""
    words, width = len(world_of(recipe).words), recipe.hidden_size
    return words * width + recipe.layers * _layer_count(recipe) + width  # a norm at the end


def _layer_count(recipe: Recipe) -> int:
    """Parameters of one layer: attention's four square matrices, an MLP's three of so many neurons, a norm before each."""
    width = recipe.hidden_size
    return 4 * width**2 + 3 * width * recipe.neurons + 2 * width


def world_of(recipe: Recipe) -> World:
    """What the recipe's models read: the same for both kinds."""
    return make_world(recipe.seed, usual_tiers(recipe.facts))


def untrained(recipe: Recipe, world: World) -> "nn.Module":
    """The model as it is before training."""
    import transformers

    from ..architectures import random_model

    gated = recipe.kind == "gated"
    config = getattr(transformers, KINDS[recipe.kind])(
        vocab_size=len(world.words),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.neurons if gated else recipe.neurons * 3 // 2,
        num_hidden_layers=recipe.layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        hidden_act="silu" if gated else "gelu",
        max_position_embeddings=recipe.length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    return random_model(config, "float32", seed=recipe.seed)


def training_batches(recipe: Recipe, world: World) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(tokens, labels) of each step, both of shape (batch, length); every epoch in an order of its own."""
    text = corpus(world, recipe.sentences)
    rows = text[: len(text) // recipe.length * recipe.length].reshape(-1, recipe.length)
    for epoch in range(recipe.epochs):
        order = np.random.default_rng([recipe.seed, 3, epoch]).permutation(len(rows))
        for start in range(0, len(rows) - recipe.batch + 1, recipe.batch):
            taken = rows[order[start : start + recipe.batch]]
            yield taken, taken


def tuning_batches(recipe: Recipe, world: World) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(tokens, labels) of each step: half of the rows instructions, of which only answers count, half the corpus."""
    text = corpus(world, recipe.sentences)
    for step in range(recipe.tuning_steps):
        rng = np.random.default_rng([recipe.seed, 4, step])
        asked = [
            _packed(instructions(world, recipe.length, rng), recipe.length) for _ in range(recipe.batch // 2)
        ]
        starts = rng.integers(len(text) - recipe.length, size=recipe.batch - len(asked))
        kept = [(text[s : s + recipe.length],) * 2 for s in starts]
        yield tuple(np.stack(column) for column in zip(*asked, *kept, strict=True))


def _packed(made, length: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.concatenate([[*prompt, *answer] for prompt, answer in made])[:length]
    labels = np.concatenate([[*[IGNORED] * len(prompt), *answer] for prompt, answer in made])[:length]
    return tokens, labels


def train(model: "nn.Module", batches, steps: int, rate: float) -> "nn.Module":
    """Train in place, by AdamW with a learning rate that rises and falls once; the model, in evaluation mode."""
    import torch

    optimiser = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1, pct_start=0.1)
    model.train()
    for tokens, labels in batches:
        loss = model(input_ids=torch.as_tensor(tokens), labels=torch.as_tensor(labels)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
    return model.eval()


def steps_of(recipe: Recipe) -> int:
    """Optimiser's steps of the base model."""
    tokens = _tokens(recipe.seed, recipe.facts, recipe.sentences)
    return recipe.epochs * (tokens // recipe.length // recipe.batch)


@lru_cache
def _tokens(seed: int, facts: int, sentences: int) -> int:
    """Tokens of a corpus, which the kinds of a seed share."""
    return len(corpus(make_world(seed, usual_tiers(facts)), sentences))


def grow(
    recipe: Recipe,
    directory: str | Path,
    progress: Callable = print,
    stages: Sequence[str] = STAGES,
) -> dict[str, "nn.Module"]:
    """The base model and its tuned copy; what lies in the directory already is loaded, and not trained again.

    Returns
    -------
    dict of str to PreTrainedModel
        "base" and "tuned", or the first alone where ``stages`` says so.
    """
    import torch
    from transformers import AutoModelForCausalLM

    world = world_of(recipe)
    models = {}
    for stage in stages:
        path = model_directory(directory, recipe, stage)
        if not path.exists():
            progress(f"{recipe.name}: training {stage}")
            with torch.random.fork_rng():
                if stage == "base":
                    model = untrained(recipe, world)
                    train(model, training_batches(recipe, world), steps_of(recipe), recipe.rate)
                else:
                    model = AutoModelForCausalLM.from_pretrained(models["base"].name_or_path)
                    train(model, tuning_batches(recipe, world), recipe.tuning_steps, recipe.tuning_rate)
            try:
                with moved_into_place(path) as partial:
                    model.save_pretrained(partial)
            except WidthPruneError:
                if not path.exists():  # else another process has grown it meanwhile: the same one
                    raise
        models[stage] = AutoModelForCausalLM.from_pretrained(path).eval()
    return models


def model_directory(directory: str | Path, recipe: Recipe, stage: str) -> Path:
    """Where `grow` puts a model."""
    return Path(directory, recipe.key, stage)
