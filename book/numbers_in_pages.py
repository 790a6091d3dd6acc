"""Numbers in the pages of the book: computed from the tables when the book is built, never typed.

``numbers.yml`` names each; `fill_pages` writes them where a page says ``{{ name }}``.
"""

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

from widthprune.audit.claims import load_claims, printed
from widthprune.audit.evidence import LLAMA, Evidence
from widthprune.audit.floors import load_floors
from widthprune.audit.ledger import judge
from widthprune.errors import WidthPruneError
from widthprune.models.packaged import PACKAGED
from widthprune.pocket import DEFAULT_TEXT
from widthprune.report.results import load_results, one_sweep
from widthprune.report.tasks import headline

HERE = Path(__file__).parent
SMALL, GEMMA, LARGE = "smollm2-135m-instruct", "gemma3-270m", "qwen2.5-coder-1.5b-instruct"


def compute_numbers(results_dir: str | Path) -> dict[str, str]:
    """Every number of ``numbers.yml`` as text, by name.

    Raises
    ------
    WidthPruneError
        If an expression cannot be evaluated; the message names it.
    """
    known, found = page_names(results_dir), {}
    for name, text in yaml.safe_load((HERE / "numbers.yml").read_text(encoding="utf-8")).items():
        try:
            found[name] = eval(f'f"""{text}"""', {"__builtins__": {}} | known)
        except (WidthPruneError, NameError, SyntaxError, TypeError, ValueError) as error:
            raise WidthPruneError(f"numbers.yml: {name} cannot be computed: {error}") from None
    return found


def fill_pages(pages: Iterable[Path], numbers: dict[str, str]) -> None:
    """Write the numbers into the pages that name them; the pages are a staged copy of the sources."""
    for page in pages:

        def number(match: re.Match, page=page) -> str:
            if match[1] not in numbers:
                raise WidthPruneError(f"{page.name} asks for {match[1]}, which numbers.yml does not name")
            return numbers[match[1]]

        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"\{\{ ([\w-]+) \}\}", number, text), encoding="utf-8")


def page_names(results_dir: str | Path) -> dict:
    """What an expression may use: the names of the ledger's rules, and the functions below."""
    evidence = Evidence(load_results(results_dir), load_floors())

    @cache
    def sweep(model: str, task: str, in_template: bool):
        table = evidence.measured_table
        asked = (table["model"] == model) & (table["task"] == task) & (table["chat_template"] == in_template)
        rows = headline(one_sweep(table[asked & table["criterion"].isin(["none", "PPM"])]))
        if rows.empty:
            raise WidthPruneError(f"no results of {task} on {model}")
        return rows.set_index("pruning_pct")

    def items(model: str, task: str, in_template: bool = False) -> int:
        """Number of items that a sweep was measured on."""
        return int(sweep(model, task, in_template)["n"].max())

    def followed(model: str, task: str, pct: float, in_template: bool = False) -> int:
        """How many of those the model gets right at a pruning percentage."""
        row = sweep(model, task, in_template).loc[pct]
        return round(row["value"] * row["n"])

    def percent(model: str, task: str, pct: float) -> str:
        """A share that is a task's score, with its standard error."""
        row = sweep(model, task, False).loc[pct]
        return f"{100 * row['value']:.0f} ± {100 * row['stderr']:.0f}%"

    def ratio(model: str) -> float:
        """Expansion ratio of an unpruned model."""
        row = evidence.shapes[evidence.shapes["model"] == LLAMA[model]].iloc[0]
        return row["intermediate_size_before"] / row["hidden_size"]

    def mean_of_draws(model: str, pct: float) -> float:
        """Perplexity on prose without random neurons, the mean over draws."""
        table = evidence.measured_table
        asked = (table["model"] == model) & (table["task"] == "pocket_prose") & table["limit"].isna()
        rows = headline(one_sweep(table[asked & (table["criterion"] == "RANDOM")]))
        if not (drawn := rows["pruning_pct"] == pct).any():
            raise WidthPruneError(f"no draws of {pct:g}% of the neurons of {model}")
        return rows[drawn]["value"].mean()

    @cache
    def printed_numbers() -> list[bool]:
        """Of every number that the paper states and its tables can answer, whether it comes out to the last digit."""
        judged = [judge(claim, evidence) for claim in load_claims() if claim.printed is not None]
        return [one.found == printed(one.claim) for one in judged if one.found]

    own = dict(items=items, followed=followed, percent=percent, ratio=ratio, span=span)
    own |= dict(mean_of_draws=mean_of_draws, printed_numbers=printed_numbers)
    own |= dict(calibration_words=calibration_words, weights_formats=weights_formats)
    return evidence.names() | own | {"SMALL": SMALL, "GEMMA": GEMMA, "LARGE": LARGE}


def span(values: Iterable[int]) -> str:
    """The least and the largest, as ``5 to 8``."""
    found = list(values)
    return f"{min(found)} to {max(found)}"


def weights_formats() -> str:
    """The formats in which the measured weights were published, model by model."""
    return "; ".join(f"{model}, {weights.format}" for model, weights in PACKAGED.items())


def calibration_words() -> int:
    """Words of the text that criteria look at by default, to the next hundred."""
    pages = DEFAULT_TEXT.read_text(encoding="utf-8").splitlines()
    return round(sum(len(json.loads(line)["page"].split()) for line in pages), -2)
