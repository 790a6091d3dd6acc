"""The page of answers: what a model wrote to each request of the pocket suite, whole, pruned, and never trained.

The answers lie in ``book/answers`` in the form of results with their samples, as `measure_answers.py` leaves them. What a
model wrote is no part of the book: it is escaped, and what nobody would see of it is shown as its escape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from widthprune.audit.controls import twin_name
from widthprune.evaluation.samples import load_samples
from widthprune.report.escaping import as_html

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
_SHORT = dict(zip(STATES.values(), ("unpruned", "10%", "40%", "60%", "random", "never trained"), strict=True))
TEMPLATES = {True: "in the chat template", False: "without the template"}
NOT_YET = "not measured yet"
KINDS = {
    "detectable_content:number_placeholders": "placeholders",
    "detectable_content:postscript": "a postscript",
    "detectable_format:json_format": "JSON",
    "detectable_format:number_bullet_lists": "bullets",
    "detectable_format:number_highlighted_sections": "highlights",
    "detectable_format:title": "a title",
    "keywords:existence": "words to use",
    "keywords:forbidden_words": "words to avoid",
    "keywords:frequency": "a word several times",
    "length_constraints:number_paragraphs": "number of paragraphs",
    "length_constraints:number_words": "number of words",
    "punctuation:no_comma": "no comma",
    "startend:end_checker": "how to end",
    "startend:quotation": "in quotation marks",
}


@dataclass(frozen=True)
class Request:
    """One request of the suite with all answers to it."""

    number: int  # of its line in the suite's file, from 1
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


def read_requests(folder: str | Path, prompts: Sequence[str]) -> list[Request]:
    """Every request with its answers, those first on which pruning changed most.

    Parameters
    ----------
    folder : str or Path
        Results with their samples; what is not there has no answers.
    prompts : sequence of str
        The requests of the suite in the order of its file.
    """
    answers = {}
    for template in TEMPLATES:
        # Only runs in the template say so.
        samples = load_samples(folder, task=TASK, chat_template=True if template else None)
        for state, name in STATES.items() if len(samples) else ():
            for row in samples[_of(samples, *state)].to_dict("records"):
                checks = dict(zip(row["instructions"], row["inst_level_strict_acc"], strict=True))
                answers.setdefault(row["doc_id"], {})[name, template] = (row["generated"], checks)
    requests = [Request(i + 1, prompts[i], answers[i]) for i in sorted(answers)]
    return sorted(requests, key=lambda one: -one.flips())


def _of(samples: pd.DataFrame, model: str, criterion: str, pct: float) -> pd.Series:
    # Of RANDOM's draws the first is shown, which names none.
    asked = (samples["model"] == model) & (samples["criterion"] == criterion)
    return asked & (samples["pruning_pct"] == pct) & samples["neuron_seed"].isna()


def answers_page(requests: Sequence[Request]) -> str:
    """MyST Markdown of the page; every answer is text, whatever it holds."""
    if not requests:
        return "# Answers\n\nNone are kept yet: `python book/measure_answers.py` measures them.\n"
    kinds = sorted({KINDS[kind] for one in requests for kind in one.kinds})
    options = "".join(f"<option>{as_html(kind)}</option>" for kind in kinds)
    # A fence of backticks would end the page's raw HTML.
    body = "\n".join(map(_request, requests)).replace("`", "&#96;")
    return PAGE.format(table=_counts(requests), options=options, n=len(requests), body=body)


def _counts(requests: Sequence[Request]) -> str:
    """How many requests each model follows, as a Markdown table: the scores of these answers."""
    lines = [f"| | {' | '.join(TEMPLATES.values())} |", "|---|---|---|"]
    for state in STATES.values():
        each = [[one.passed(state, template) for one in requests] for template in TEMPLATES]
        cells = [NOT_YET if None in passed else f"{sum(passed)} of {len(passed)}" for passed in each]
        lines.append(f"| {state} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _request(one: Request) -> str:
    """One request, folded: its answers as a table, a row a model, a column a way of asking."""
    kinds = [KINDS[kind] for kind in one.kinds]
    head = "".join(f"<th scope='col'>{name}</th>" for name in TEMPLATES.values())
    rows = "".join(
        f"<tr><th scope='row'>{state}</th>{''.join(_answer(one.answers.get((state, t))) for t in TEMPLATES)}</tr>"
        for state in STATES.values()
    )
    marks = ", ".join(f"{_SHORT[state]} {_sign(one.passed(state, True))}" for state in STATES.values())
    return (
        f"<details class='answer' data-kinds='{as_html('|'.join(kinds))}' data-flips='{one.flips()}'>"
        f"<summary>{as_html(one.prompt)} <small>Asks for: {as_html(', '.join(kinds))}. In the template: {marks}.</small>"
        f"</summary><table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _answer(found: tuple[str, Mapping[str, bool]] | None) -> str:
    if found is None:
        return f"<td>{NOT_YET}</td>"
    text, checks = found
    marks = ", ".join(f"{_sign(held)} {KINDS[kind]}" for kind, held in checks.items())
    # Line ends are what they are; all else that has no shape of its own is written as its escape.
    shown = "\n".join(map(as_html, text.split("\n"))) if text.strip() else "<em>nothing</em>"
    return f"<td><p>{marks}</p><pre tabindex='0'>{shown}</pre></td>"


def _sign(held: bool | None) -> str:
    if held is None:
        return NOT_YET
    word, sign = ("followed", "✓") if held else ("not followed", "✗")
    return f"<span class='{'held' if held else 'missed'}'>{sign} {word}</span>"


PAGE = """# Answers

What does a model write when a part of its neurons is gone? Here are {n} requests, drawn by a seed from the pocket suite
of this repository, and what SmolLM2-135M-Instruct wrote: whole, pruned by the paper's criterion, with as many neurons
removed at random, and never trained. A sign says whether the answer does what the request asks, as IFEval's
own checks see it; they look at the form alone, and a text that says nothing can pass. Answers end after 128 tokens.
Requests on which pruning changed most come first. Everything below was written by a language model, and is shown as
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
