"""Make ``data/facts.jsonl`` and ``data/instructions.jsonl``: ``python -m widthprune.pocket.generate``.

The questions come from tables of facts and one seed, so anyone can rebuild the same file, or draw
another. Wrong answers are right answers to other questions of the same kind. The instructions are
checkable ones in IFEval's format, each put to every topic.
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


TOPICS = """
the sea in winter; a market on a Saturday; how bread is made; a journey by train; the smell of rain;
keeping bees
"""
# IFEval's name of an instruction, what it is told to check, and how the prompt says it.
INSTRUCTIONS = [
    ("punctuation:no_comma", {}, "Do not use any commas."),
    ("keywords:forbidden_words", {"forbidden_words": ["the", "very"]}, "Leave out the words the and very."),
    ("keywords:existence", {"keywords": ["lantern", "seven"]}, "Use the words lantern and seven."),
    ("keywords:frequency", {"keyword": "slowly", "frequency": 3, "relation": "at least"},
     "Use the word slowly at least three times."),
    ("length_constraints:number_words", {"num_words": 60, "relation": "less than"},
     "Use fewer than 60 words."),
    ("length_constraints:number_words", {"num_words": 40, "relation": "at least"},
     "Use at least 40 words."),
    ("detectable_format:number_bullet_lists", {"num_bullets": 3},
     "Answer with exactly three bullet points, each beginning with an asterisk and a space."),
    ("detectable_format:title", {}, "Give it a title in double angular brackets, as in <<title>>."),
    ("change_case:english_lowercase", {}, "Answer in English, in small letters only."),
    ("startend:quotation", {}, "Put the whole answer in double quotation marks."),
]  # fmt: skip


def instructions() -> list[dict]:
    """Prompts with one or two checkable instructions: ``{key, prompt, instruction_id_list, kwargs}``."""
    prompts = []
    for topic in (topic.strip() for topic in TOPICS.split(";")):
        singles = [(entry,) for entry in INSTRUCTIONS]
        # A pair of neighbours, so that some prompts ask for two things, as IFEval's do.
        pairs = [(INSTRUCTIONS[i], INSTRUCTIONS[i + 2]) for i in (0, 4)]
        prompts += [(topic, chosen) for chosen in singles + pairs]
    return [
        {
            "key": key,
            "prompt": f"Write about {topic}. " + " ".join(told for _, _, told in chosen),
            "instruction_id_list": [name for name, _, _ in chosen],
            "kwargs": [checked for _, checked, _ in chosen],
        }
        for key, (topic, chosen) in enumerate(prompts)
    ]


def to_lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    (DATA / "facts.jsonl").write_text(to_lines(facts()), encoding="utf-8")
    (DATA / "instructions.jsonl").write_text(to_lines(instructions()), encoding="utf-8")
    sys.stderr.write(f"{DATA}: {N_FACTS} questions, {len(instructions())} instructions\n")
