"""The page of answers: what a model wrote to each request of a suite, whole and pruned.

Those of the book lie in ``book/answers`` in the form of results with their samples, as `measure_answers.py` leaves them. What a
model wrote is no part of the book: it is escaped, and what nobody would see of it is shown as its escape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from widthprune.audit.controls import twin_name
from widthprune.evaluation.samples import load_samples
from widthprune.report.escaping import as_html, as_myst
from widthprune.report.tasks import instruction_words

ANSWERS = Path(__file__).parent / "answers"
TASK, MODEL = "pocket_instructions", "smollm2-135m-instruct"
# In the order in which they are shown: model, criterion and neurons removed (%).
STATES = {
    (MODEL, "none", 0): "unpruned",
    (MODEL, "PPM", 10): "PPM, 10% removed",
    (MODEL, "PPM", 40): "PPM, 40% removed",
    (MODEL, "PPM", 60): "PPM, 60% removed",
    (MODEL, "RANDOM", 40): "random neurons, 40% removed",
    (twin_name(MODEL), "none", 0): (NEVER := "never trained"),
}
TEMPLATES = {True: "in the chat template", False: "without the template"}
NOT_YET = "not measured yet"


@dataclass(frozen=True)
class Request:
    """One request of the suite with all answers to it."""

    number: int  # of its item in the suite, from 1
    prompt: str
    answers: Mapping[tuple[str, bool], tuple[str, Mapping[str, bool]]]  # (state, template) -> text, checks

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is asked for, by IFEval's names."""
        return tuple(next(iter(self.answers.values()))[1])

    def passed(self, state: str, template: bool) -> bool | None:
        """Whether an answer does all that is asked; None where none was measured."""
        found = self.answers.get((state, template))
        return None if found is None else all(found[1].values())

    def flips(self) -> int:
        """Of how many answers of pruned models the outcome is another than the unpruned model's, asked in the same way."""
        whole = {template: self.passed("unpruned", template) for template in TEMPLATES}
        asked = [key for key in self.answers if whole[key[1]] is not None and key[0] != NEVER]
        return sum(self.passed(state, template) != whole[template] for state, template in asked)


def states_of(folder: str | Path, task: str) -> dict[tuple[str, str, float], str]:
    """The states of which a folder holds answers, in the order in which they are shown; of random neurons the first draw."""
    samples = load_samples(folder, task=task)
    if samples.empty:
        return {}
    samples = samples[samples["neuron_seed"].isna()].assign(pruned=samples["criterion"] != "none")
    rows = samples.sort_values(["model", "pruned", "criterion", "pruning_pct"])
    found = rows[["model", "criterion", "pruning_pct"]].drop_duplicates().itertuples(index=False)
    return {tuple(state): _name(state.criterion, state.pruning_pct) for state in found}


def _name(criterion: str, pct: float) -> str:
    if criterion == "none":
        return "unpruned"
    return f"{'random neurons' if criterion == 'RANDOM' else criterion}, {pct:.4g}% removed"


def read_requests(
    folder: str | Path, prompts: Sequence[str], states: Mapping[tuple, str] = STATES, task: str = TASK
) -> list[Request]:
    """Every request with its answers, those first on which pruning changed most.

    Parameters
    ----------
    folder : str or Path
        Results with their samples; what is not there has no answers.
    prompts : sequence of str
        The requests of the suite in the order of its file; of one that is not there the number is shown.
    states : mapping
        Model, criterion and percentage -> name: whose answers are read.
    task : str
    """
    answers = {}
    for template in TEMPLATES:
        # Only runs in the template say so.
        samples = load_samples(folder, task=task, chat_template=True if template else None)
        for state, name in states.items() if len(samples) else ():
            for row in samples[_of(samples, *state)].to_dict("records"):
                checks = dict(zip(row["instructions"], row["inst_level_strict_acc"], strict=True))
                answers.setdefault(row["doc_id"], {})[name, template] = (row["generated"], checks)
    said = [*prompts, *(f"Request {i + 1}" for i in range(len(prompts), 1 + max(answers, default=0)))]
    requests = [Request(i + 1, said[i], answers[i]) for i in sorted(answers)]
    return sorted(requests, key=lambda one: -one.flips())


def as_records(requests: Sequence[Request]) -> list[dict]:
    """Every answer that the page shows, with its request and the checks that it passed."""
    return [
        {"prompt": one.prompt, "model": state, "chat_template": template, "answer": text, "followed": checks}
        for one in requests
        for (state, template), (text, checks) in one.answers.items()
    ]


def _of(samples: pd.DataFrame, model: str, criterion: str, pct: float) -> pd.Series:
    # Of RANDOM's draws the first is shown, which names none.
    asked = (samples["model"] == model) & (samples["criterion"] == criterion)
    return asked & (samples["pruning_pct"] == pct) & samples["neuron_seed"].isna()


def answers_page(requests: Sequence[Request], about: str | None = None, most: int | None = None) -> str:
    """MyST Markdown of the page; every answer is text, whatever it holds.

    Parameters
    ----------
    requests : sequence of Request
    about : str, optional
        Title and first paragraph, in MyST Markdown; default those of the book's own answers.
    most : int, optional
        How many requests to show, the first ones; the counts are of all.
    """
    if not requests:
        return "# Answers\n\nNone are kept yet: `python book/measure_answers.py` measures them.\n"
    about, table = about or BOOK.format(n=len(requests)), _counts(requests)
    requests = requests[:most]
    kinds = sorted({instruction_words(kind) for one in requests for kind in one.kinds})
    options = "".join(f"<option>{as_html(kind)}</option>" for kind in kinds)
    # A fence of backticks would end the page's raw HTML.
    ways = _ways(requests)
    body = "\n".join(_request(one, ways) for one in requests).replace("`", "&#96;")
    return PAGE.format(about=about, table=table, options=options, body=body)


def _states(requests: Sequence[Request]) -> list[str]:
    """Every state of which there is an answer, in the order in which they were read."""
    return list(dict.fromkeys(state for one in requests for state, _ in one.answers))


def _counts(requests: Sequence[Request]) -> str:
    """How many requests each model follows, as a Markdown table: the scores of these answers."""
    ways = _ways(requests)
    lines = [f"| | {' | '.join(ways.values())} |", "|---" * (1 + len(ways)) + "|"]
    for state in _states(requests):
        each = [[one.passed(state, template) for one in requests] for template in ways]
        cells = [NOT_YET if None in passed else f"{sum(passed)} of {len(passed)}" for passed in each]
        lines.append(f"| {as_myst(state)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _ways(requests: Sequence[Request]) -> dict[bool, str]:
    """The ways of asking, of which there is an answer to any request."""
    asked = {template for one in requests for _, template in one.answers}
    return {template: name for template, name in TEMPLATES.items() if template in asked}


def _request(one: Request, ways: Mapping[bool, str]) -> str:
    """One request, folded: its answers as a table, a row a model, a column a way of asking."""
    kinds, states = list(map(instruction_words, one.kinds)), _states([one])
    head = "".join(f"<th scope='col'>{name}</th>" for name in ways.values())
    rows = "".join(
        f"<tr><th scope='row'>{as_html(state)}</th>"
        + "".join(_answer(one.answers.get((state, way)), name) for way, name in ways.items())
        + "</tr>"
        for state in states
    )
    marks = "".join(
        f"<small>{name.capitalize()}: "
        + ", ".join(f"{as_html(_short(state))} {_sign(one.passed(state, way))}" for state in states)
        + ".</small>"
        for way, name in ways.items()
    )
    return (
        f"<details class='answer' data-kinds='{as_html('|'.join(kinds))}' data-flips='{one.flips()}'>"
        f"<summary>{as_html(one.prompt)} <small>Asks for: {as_html(', '.join(kinds))}.</small>{marks}"
        f"</summary><table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _short(state: str) -> str:
    return state.removesuffix(" removed").removeprefix("PPM, ")


def _answer(found: tuple[str, Mapping[str, bool]] | None, way: str) -> str:
    if found is None:
        return f"<td data-way='{way}'>{NOT_YET}</td>"
    text, checks = found
    marks = ", ".join(f"{_sign(held)} {as_html(instruction_words(kind))}" for kind, held in checks.items())
    # Line ends are what they are; all else that has no shape of its own is written as its escape.
    shown = "\n".join(map(as_html, text.split("\n"))) if text.strip() else "<em>nothing</em>"
    return f"<td data-way='{way}'><p>{marks}</p><pre tabindex='0'>{shown}</pre></td>"


def _sign(held: bool | None) -> str:
    if held is None:
        return NOT_YET
    word, sign = ("followed", "✓") if held else ("not followed", "✗")
    return f"<span class='{'held' if held else 'missed'}'>{sign} {word}</span>"


BOOK = """# Answers

What does a model write when a part of its neurons is gone? Here are {n} requests, drawn by a seed from the pocket suite
of this repository, and what SmolLM2-135M-Instruct wrote: whole, pruned by the paper's criterion, with as many neurons
removed at random, and never trained. A sign says whether the answer does what the request asks, as IFEval's
own checks see it; they look at the form alone, and a text that says nothing can pass. Answers end after 128 tokens.
Requests on which pruning changed most come first."""
PAGE = """{about} Everything below was written by a language model, and is shown as
it was written; characters that have no shape are shown as their escapes.

{table}

```{{raw}} html
<form class="answers-filter" id="answers-filter">
<label>Asks for <select name="kind"><option value="">anything</option>{options}</select></label>
<label><input type="checkbox" name="flips"> only where pruning changed the outcome</label>
<span role="status" id="answers-said"></span>
</form>
<div id="answers">
{body}
</div>
<script src="../_static/answers.js"></script>
```
"""
