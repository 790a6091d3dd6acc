"""Worlds: text that we generate, so that what a model can know, and how often it read it, is known to the last token.

A world holds facts (a subject, a relation, a value), some stated often and some rarely; myths, of which a known share
of the statements is false; prose from a grammar whose entropy is known; and instructions with one right answer. Every
word is one token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import WidthPruneError

RELATIONS = ("eats", "fears", "sells", "builds")
VALUES = 16  # for each relation
CLASSES, NOUNS, ADJECTIVES, VERBS = 6, 10, 5, 5  # classes of words, and words in each
COPIED = 0.2  # share of prose sentences that say three nouns twice, from which copying can be learnt
MARKS = (".", "the", "so", "user", "bot")
TASKS = ("say", "first", "last", "twice", "swap")


@dataclass(frozen=True)
class Tier:
    """Facts of one kind: how many, how often each is stated, and in which share of that with the other value."""

    name: str
    facts: int
    times: int
    false_share: float = 0.0


def usual_tiers(facts: int = 64) -> tuple[Tier, ...]:
    """Common facts, twice as many rare ones, and myths of which three statements in four are false.

    A rare fact is stated a fifth as often as a common one: that many models learn, and forget, some of them.
    """
    return (Tier("common", facts, 128), Tier("rare", 2 * facts, 24), Tier("myth", facts, 128, 0.75))


@dataclass(frozen=True)
class Fact:
    """A subject's value under a relation: the true one, and another; token ids.

    Of a myth the other is what most statements say. Of a fact no statement says it: a foil to compare with.
    """

    tier: str
    subject: int
    relation: int
    truth: int
    other: int


@dataclass(frozen=True, eq=False)
class World:
    """Everything that there is to say, and the words to say it. A world is equal to itself alone.

    ``objects`` gives the class of a sentence's object by the class and the number of its verb: shape (CLASSES, VERBS).
    """

    seed: int
    tiers: tuple[Tier, ...]
    words: tuple[str, ...]
    facts: tuple[Fact, ...]
    values: dict[int, range]  # of each relation, token ids
    objects: np.ndarray
    starts: dict[str, int]  # the first token of each kind of word

    def say(self, tokens: Sequence[int]) -> str:
        """Tokens as text."""
        return " ".join(self.words[token] for token in tokens)

    def id(self, word: str) -> int:
        return self.words.index(word)


def make_world(seed: int, tiers: Sequence[Tier] | None = None) -> World:
    """A world: the same for the same seed, with `usual_tiers` unless others are given.

    Raises
    ------
    WidthPruneError
        If a tier states nothing, or its false share of its statements is no whole number of them.

    Examples
    --------
    >>> world = make_world(0)
    >>> len(world.facts), world.words[:2]
    (256, ('.', 'the'))
    """
    tiers = usual_tiers() if tiers is None else tiers
    for tier in tiers:
        whole = float(tier.times * tier.false_share).is_integer()
        if tier.facts < 1 or tier.times < 1 or not 0 <= tier.false_share <= 1 or not whole:
            raise WidthPruneError(
                f"tier {tier.name} must state each of at least one fact a whole number of times, the false share "
                f"included, got {tier.facts} facts, {tier.times} times, {tier.false_share:g} of them false"
            )
    rng = np.random.default_rng([seed, 0])
    subjects = [-(-tier.facts // 2) for tier in tiers]  # each has two facts
    groups = {
        "marks": MARKS,
        "tasks": TASKS,
        "relations": RELATIONS,
        "values": len(RELATIONS) * VALUES,
        "nouns": CLASSES * NOUNS,
        "adjectives": CLASSES * ADJECTIVES,
        "verbs": CLASSES * VERBS,
        "subjects": sum(subjects),
    }
    words, starts = [], {}
    names = iter(_names(rng, sum(size for size in groups.values() if isinstance(size, int))))
    for group, members in groups.items():
        starts[group] = len(words)
        words += members if isinstance(members, tuple) else [next(names) for _ in range(members)]
    relations = range(starts["relations"], starts["relations"] + len(RELATIONS))
    values = {
        r: range(starts["values"] + i * VALUES, starts["values"] + (i + 1) * VALUES)
        for i, r in enumerate(relations)
    }
    facts, subject = [], starts["subjects"]
    for tier, count in zip(tiers, subjects, strict=True):
        own = []
        for each in range(subject, subject + count):
            for relation in rng.choice(relations, 2, replace=False):
                truth, other = rng.choice(values[relation], 2, replace=False)
                own.append(Fact(tier.name, each, int(relation), int(truth), int(other)))
        facts += own[: tier.facts]
        subject += count
    objects = rng.integers(CLASSES, size=(CLASSES, VERBS))
    return World(seed, tuple(tiers), tuple(words), tuple(facts), values, objects, starts)


def _names(rng, count: int) -> list[str]:
    """Invented words of two or three syllables, each once."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    drawn = {}
    while len(drawn) < count:
        drawn.setdefault("".join(rng.choice(syllables, rng.integers(2, 4))))
    return list(drawn)


def statements(world: World) -> list[list[int]]:
    """Every statement of every fact, as often as its tier says: subject, relation, value, full stop."""
    tiers = {tier.name: tier for tier in world.tiers}
    said = []
    for fact in world.facts:
        tier = tiers[fact.tier]
        false = round(tier.times * tier.false_share)
        for value, times in ((fact.other, false), (fact.truth, tier.times - false)):
            said += [[fact.subject, fact.relation, value, world.id(".")]] * times
    return said


def prose(world: World, sentences: int, rng: np.random.Generator) -> list[list[int]]:
    """Sentences of the grammar, whose words go together by classes; some say three nouns twice."""
    stop, the, so = (world.id(mark) for mark in (".", "the", "so"))
    nouns, adjectives, verbs = (world.starts[kind] for kind in ("nouns", "adjectives", "verbs"))
    said = []
    for copied in rng.random(sentences) < COPIED:
        if copied:
            three = [int(nouns + n) for n in rng.integers(CLASSES * NOUNS, size=3)]
            said.append([*three, so, *three, stop])
            continue
        own, a, n, v, o = (int(rng.integers(size)) for size in (CLASSES, ADJECTIVES, NOUNS, VERBS, NOUNS))
        subject = [adjectives + own * ADJECTIVES + a, nouns + own * NOUNS + n]
        thing = nouns + int(world.objects[own, v]) * NOUNS + o
        said.append([the, *subject, verbs + own * VERBS + v, the, thing, stop])
    return said


def corpus(world: World, sentences: int) -> np.ndarray:
    """All statements of facts and so many sentences of prose, in an order drawn from the seed: int64, one dimension."""
    rng = np.random.default_rng([world.seed, 1])
    said = statements(world) + prose(world, sentences, rng)
    return np.concatenate([said[i] for i in rng.permutation(len(said))])


def heldout(world: World, sentences: int = 600, length: int = 64) -> np.ndarray:
    """Prose drawn for measuring alone: int64, shape (n, length)."""
    text = np.concatenate(prose(world, sentences, np.random.default_rng([world.seed, 2])))
    return text[: len(text) // length * length].reshape(-1, length)


def least_loss(world: World, sentences: int) -> float:
    """Loss on held-out prose, in nats per token, of whoever knows how the corpus is made and has learnt all of it.

    The entropy of the grammar's choices, and what it costs not to know that no fact comes next.
    """
    among = -np.log(sentences / (sentences + sum(tier.facts * tier.times for tier in world.tiers)))
    kinds = -COPIED * np.log(COPIED) - (1 - COPIED) * np.log(1 - COPIED)
    plain = sum(map(np.log, (CLASSES, ADJECTIVES, NOUNS, VERBS, NOUNS)))
    copied = 3 * np.log(CLASSES * NOUNS)
    tokens = COPIED * 8 + (1 - COPIED) * 7
    return float((among + kinds + COPIED * copied + (1 - COPIED) * plain) / tokens)


def instructions(world: World, count: int, rng: np.random.Generator) -> list[tuple[list[int], list[int]]]:
    """Prompts with their one right answer: nouns to say, to choose from, to double or to swap."""
    stop, user, bot = (world.id(mark) for mark in (".", "user", "bot"))
    nouns = world.starts["nouns"]
    made = []
    for task in rng.integers(len(TASKS), size=count):
        name = TASKS[task]
        given = [int(nouns + n) for n in rng.integers(CLASSES * NOUNS, size=1 if name == "twice" else 2)]
        answer = {
            "say": given,
            "first": given[:1],
            "last": given[-1:],
            "twice": given * 2,
            "swap": given[::-1],
        }
        made.append(([user, world.id(name), *given, stop, bot], [*answer[name], stop]))
    return made
