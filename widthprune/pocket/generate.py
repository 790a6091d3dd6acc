"""Make ``facts``, ``arithmetic`` and ``instructions``: ``python -m widthprune.pocket.generate``.

The items come from the tables below and one seed, so anyone can rebuild the same files, or draw others.
"""

import json
import sys
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"

CAPITALS = """
France: Paris; Germany: Berlin; Italy: Rome; Spain: Madrid; Portugal: Lisbon; Greece: Athens;
Poland: Warsaw; Austria: Vienna; Hungary: Budapest; Sweden: Stockholm; Norway: Oslo; Finland: Helsinki;
Denmark: Copenhagen; Ireland: Dublin; Belgium: Brussels; Russia: Moscow; Turkey: Ankara; Egypt: Cairo;
Kenya: Nairobi; Nigeria: Abuja; Ethiopia: Addis Ababa; Morocco: Rabat; Iran: Tehran; Iraq: Baghdad;
Japan: Tokyo; China: Beijing; India: New Delhi; Thailand: Bangkok; Vietnam: Hanoi; Indonesia: Jakarta;
Australia: Canberra; New Zealand: Wellington; Canada: Ottawa; Mexico: Mexico City; Cuba: Havana;
Brazil: Brasilia; Argentina: Buenos Aires; Chile: Santiago; Peru: Lima; Colombia: Bogota;
Romania: Bucharest; Bulgaria: Sofia; Serbia: Belgrade; Croatia: Zagreb; Ukraine: Kyiv; Iceland: Reykjavik;
Pakistan: Islamabad; Nepal: Kathmandu; Saudi Arabia: Riyadh; South Korea: Seoul
"""
SYMBOLS = """
hydrogen: H; helium: He; carbon: C; nitrogen: N; oxygen: O; sodium: Na; magnesium: Mg; aluminium: Al;
silicon: Si; phosphorus: P; sulfur: S; chlorine: Cl; potassium: K; calcium: Ca; iron: Fe; copper: Cu;
zinc: Zn; silver: Ag; tin: Sn; iodine: I; gold: Au; mercury: Hg; lead: Pb; uranium: U; neon: Ne;
argon: Ar; nickel: Ni; cobalt: Co; tungsten: W; platinum: Pt
"""
CONTINENTS = """
France: Europe; Poland: Europe; Sweden: Europe; Italy: Europe; Portugal: Europe; Hungary: Europe;
Kenya: Africa; Nigeria: Africa; Ghana: Africa; Morocco: Africa; Ethiopia: Africa; Zambia: Africa;
Japan: Asia; India: Asia; Thailand: Asia; Vietnam: Asia; Nepal: Asia; Mongolia: Asia;
Brazil: South America; Peru: South America; Chile: South America; Bolivia: South America;
Canada: North America; Mexico: North America; Cuba: North America; Guatemala: North America
"""
CURRENCIES = """
Japan: yen; India: rupee; China: yuan; Russia: ruble; Sweden: krona; Poland: zloty; Hungary: forint;
Switzerland: franc; Thailand: baht; Vietnam: dong; South Korea: won; Israel: shekel; Brazil: real;
South Africa: rand; Nigeria: naira; Turkey: lira; Mexico: peso; Egypt: pound; Canada: dollar; Iran: rial
"""
YOUNG = """
dog: puppy; cat: kitten; cow: calf; sheep: lamb; horse: foal; goat: kid; lion: cub; deer: fawn;
duck: duckling; goose: gosling; pig: piglet; swan: cygnet; frog: tadpole; eagle: eaglet;
kangaroo: joey; owl: owlet; hare: leveret
"""
OPPOSITES = """
hot: cold; up: down; early: late; full: empty; open: closed; heavy: light; rich: poor; young: old;
wet: dry; strong: weak; wide: narrow; deep: shallow; sharp: blunt; fast: slow; loud: quiet; hard: soft;
always: never; inside: outside; before: after; arrive: depart; buy: sell; win: lose; remember: forget;
rise: fall; push: pull; love: hate; ancient: modern; cheap: expensive; brave: cowardly; rough: smooth
"""
LANGUAGES = """
Brazil: Portuguese; Austria: German; Mexico: Spanish; Egypt: Arabic; Japan: Japanese; Greece: Greek;
Poland: Polish; Russia: Russian; Israel: Hebrew; Turkey: Turkish; Iran: Persian; Thailand: Thai;
Vietnam: Vietnamese; Hungary: Hungarian; Finland: Finnish; Sweden: Swedish; Denmark: Danish;
Jamaica: English; Haiti: Haitian Creole; Iceland: Icelandic
"""
KINDS = {
    "What is the capital of {}?": CAPITALS,
    "What is the chemical symbol of {}?": SYMBOLS,
    "On which continent is {}?": CONTINENTS,
    "What is the currency of {} called?": CURRENCIES,
    "What is the young of a {} called?": YOUNG,
    'What is the opposite of "{}"?': OPPOSITES,
    "Which language do most people in {} speak?": LANGUAGES,
}
N_FACTS = 192  # a multiple of 4, so that each position holds the right answer equally often
N_ARITHMETIC = 120
N_INSTRUCTIONS = 120

# Two steps with small numbers: a start, what it gains, and what is done with the sum.
STORIES = """
{name} has {a} {things}, finds {b} more and gives away {c}. How many {things} does {name} have now?
A shop has {a} {things}, receives {b} more and sells {c}. How many {things} are left in the shop?
There are {a} {things} in a box and {b} on a table. {name} takes {c} of them. How many {things} are left?
{name} buys {a} {things} on Monday and {b} on Tuesday, and loses {c}. How many {things} does {name} have?
"""
TIMES_STORIES = """
{name} has {c} bags with {a} red and {b} green {things} in each. How many {things} is that in all?
A box holds {a} large and {b} small {things}. How many {things} do {c} boxes hold?
{name} packs {a} {things} in the morning and {b} in the evening of each day. How many {things} in {c} days?
"""
NAMES = "Anna Ben Clara David Emma Felix Grace Hugo Ida Jonas Karim Lena Maya Noah Olga Peter"
THINGS = "apples stamps marbles books candles coins pencils shells buttons tickets cups cards"

TOPICS = """
Describe a walk along a river in spring.
Explain why leaves change colour in autumn.
Write a letter to a friend who has moved to another city.
Give advice to someone who is learning to cook.
Describe a busy market in a small town.
Explain how bread is made.
Write about a day at the sea.
Describe your idea of a perfect library.
Explain why sleep is important.
Write a short review of an imaginary restaurant.
Describe a train journey through the mountains.
Explain how to take care of a houseplant.
Write a speech for the opening of a new bridge.
Describe the first snow of the winter.
Explain how a bicycle stays upright.
Write a note to the neighbours about a party.
Describe an old house and the people who live in it.
Explain the rules of a simple game.
Write about a lost dog that finds its way home.
Explain why people travel.
"""
WORDS = "window garden river music morning letter bridge winter teacher market silver kitchen"
LAST_WORDS = ("That is all I have to say.", "Thank you for reading.", "I hope this helps.")


def facts(seed: int = 0) -> list[dict]:
    """Four-choice questions: ``{question, choices, answer}``, the answer's position balanced."""
    random = np.random.default_rng(seed)
    items = []
    for template, table in KINDS.items():
        pairs = [entry.strip().split(": ") for entry in table.split(";")]
        for subject, answer in pairs:
            others = sorted({other for _, other in pairs} - {answer})
            wrong = random.choice(others, 3, replace=False).tolist()
            items.append((template.format(subject), answer, wrong))
    items = [items[i] for i in random.permutation(len(items))[:N_FACTS]]
    positions = random.permutation(np.repeat(np.arange(4), N_FACTS // 4)).tolist()
    return [
        {"question": question, "choices": [*wrong[:at], answer, *wrong[at:]], "answer": at}
        for (question, answer, wrong), at in zip(items, positions, strict=True)
    ]


def arithmetic(seed: int = 0) -> list[dict]:
    """Word problems of two steps: ``{question, steps, answer}``, half of them a sum less a number, half a product."""
    random = np.random.default_rng(seed)
    less, times = (text.strip().split("\n") for text in (STORIES, TIMES_STORIES))
    items: dict[str, dict] = {}
    while len(items) < N_ARITHMETIC:
        a, b = (int(number) for number in random.integers(2, 20, 2))
        product = len(items) % 2 == 1
        c = int(random.integers(2, 6) if product else random.integers(2, a + b - 1))
        story = str(random.choice(times if product else less))
        words = {"name": random.choice(NAMES.split()), "things": random.choice(THINGS.split())}
        answer = (a + b) * c if product else a + b - c
        step = f"{a + b} * {c} = {answer}" if product else f"{a + b} - {c} = {answer}"
        question = story.format(a=a, b=b, c=c, **words)
        items[question] = {
            "question": question,
            "steps": f"{a} + {b} = {a + b}. {step}.",
            "answer": answer,
        }
    return list(items.values())


def instructions(seed: int = 0) -> list[dict]:
    """Requests with one or two checkable instructions: ``{topic, instruction_id_list, kwargs}``.

    The wording of an instruction is lm-eval's and is made when the task runs; here stands which one.
    Left out are those that need NLTK's tables or guess a language.
    """
    random = np.random.default_rng(seed)

    def words(n):
        return random.choice(WORDS.split(), n, replace=False).tolist()

    kinds = {
        "keywords:existence": lambda: {"keywords": words(2)},
        "keywords:forbidden_words": lambda: {"forbidden_words": words(3)},
        "keywords:frequency": lambda: {
            "keyword": words(1)[0], "frequency": 2, "relation": "at least"
        },
        "length_constraints:number_words": lambda: {
            "num_words": int(random.choice([30, 50, 70])), "relation": str(random.choice(["less than", "at least"]))
        },
        "length_constraints:number_paragraphs": lambda: {"num_paragraphs": int(random.integers(2, 4))},
        "detectable_content:number_placeholders": lambda: {"num_placeholders": int(random.integers(1, 3))},
        "detectable_content:postscript": lambda: {"postscript_marker": "P.S."},
        "detectable_format:number_bullet_lists": lambda: {"num_bullets": int(random.integers(2, 5))},
        "detectable_format:number_highlighted_sections": lambda: {"num_highlights": int(random.integers(1, 3))},
        "detectable_format:title": dict,
        "detectable_format:json_format": dict,
        "startend:end_checker": lambda: {"end_phrase": str(random.choice(LAST_WORDS))},
        "startend:quotation": dict,
        "punctuation:no_comma": dict,
    }  # fmt: skip
    topics, names = TOPICS.strip().split("\n"), list(kinds)
    items = []
    for i in range(N_INSTRUCTIONS):
        # Every kind comes first equally often; the second, in every other item, may not contradict it.
        chosen = [names[i % len(names)]]
        if i % 2:
            other = str(random.choice(names))
            together = {chosen[0], other}
            closed = {"detectable_format:json_format", "startend:quotation", "startend:end_checker"}
            if len(together) == 2 and not together & closed and len({n.split(":")[0] for n in together}) == 2:
                chosen.append(other)
        items.append(
            {
                "topic": topics[i % len(topics)],
                "instruction_id_list": chosen,
                "kwargs": json.dumps([kinds[name]() for name in chosen]),
            }
        )
    return items


GENERATED = {"facts": facts, "arithmetic": arithmetic, "instructions": instructions}


def to_lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    for name, make in GENERATED.items():
        (DATA / f"{name}.jsonl").write_text(to_lines(make()), encoding="utf-8")
        sys.stderr.write(f"{DATA / name}.jsonl\n")
