"""The book of one rerun: its front page, its executed notebooks, and the record, in the look of the whole book.

    python book/run_book.py RUN

RUN is the folder that `widthprune rerun` filled; the book lies in RUN/_build/html.
"""

import json
import re
import shutil
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd
import yaml
from answers import TASK, answers_page, as_records, read_requests, states_of
from build import ROOT, render
from data_pages import prompts, write_explorer
from downloads import save_answers, save_archive
from figures import write_figures
from numbers_in_pages import compute_numbers, fill_pages

from widthprune.report.escaping import as_line, as_myst
from widthprune.report.results import load_results
from widthprune.report.runs import public_name
from widthprune.report.tables import criterion_labels, with_error
from widthprune.report.tasks import CHECKED_TASKS, TASKS, headline
from widthprune.report.verdicts import collect
from widthprune.reruns.records import read_plan

BADGES = {
    "reproduced": "success",
    "reproduced, but a control does as much or more": "warning",
    "inconclusive": "info",
    "not reproduced": "danger",
    "does not transfer to the models measured here": "danger",
    "not testable here": "secondary",
}


MOST_ANSWERS = 60  # requests on a page, which a browser should open at once
ABOUT_ANSWERS = """# Answers to {task}

What {model} wrote in this run, whole and pruned. A sign says whether the answer does what the request asks, as IFEval's
own checks see it; they look at the form alone. Requests on which pruning changed most come first, {most} at most; all of
them are in <a href="../answers.json">answers.json</a>."""


def main(run: Path) -> int:
    plan = read_plan(run)
    stage = run / "_build" / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    shutil.copytree(
        ROOT / "book",
        stage / "book",
        ignore=shutil.ignore_patterns(
            "__pycache__", "intro.md", "findings.md", "reproduce.md", "contribute.md"
        ),
    )
    fill_pages((stage / "book").glob("*.md"), compute_numbers(ROOT / "results"))
    (stage / "notebooks").mkdir()
    notebooks = [run / "notebooks" / f"{name}.ipynb" for name in sorted(plan["notebooks"])]
    settings = config(plan)
    for path in notebooks:
        text = links_out(path.read_text(encoding="utf-8"), plan["notebooks"], settings["repository"])
        (stage / "notebooks" / path.name).write_text(text, encoding="utf-8")
    write_explorer(run / "results", stage, shown_first)
    write_figures(run / "results", [stage / "notebooks" / path.name for path in notebooks], stage)
    asked = write_answers(run / "results", short(plan), stage)
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    (stage / "_toc.yml").write_text(yaml.safe_dump(contents(notebooks, asked)), encoding="utf-8")
    (stage / "_config.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (stage / "book" / "run.md").write_text(front_page(plan, record, run, stage, notebooks), encoding="utf-8")
    if render(stage, run):
        shutil.rmtree(run / "_build" / "html", ignore_errors=True)
        print("rerun: the pages of the book have warnings or errors, see above", file=sys.stderr)
        return 1
    save_archive(run / "_build" / "html")
    return 0


def shown_first(table: pd.DataFrame) -> dict:
    """What the explorer of a run's results shows first: what was measured, beside one of the paper's models."""
    measured = table[table["source"] == "measured"]
    first = {
        "model": sorted({*measured["model"], "Llama-3.2-1B"}),
        "criterion": sorted(set(measured["criterion"])),
    }
    return first | ({"task": measured["task"].iloc[0]} if len(measured) else {})


def write_answers(results: Path, model: str, stage: Path) -> list[str]:
    """Pages of what the model wrote, one for each benchmark with checks whose answers the run kept; their names."""
    pages, records = {}, []
    for task in CHECKED_TASKS:
        of_suite = prompts() if task == TASK else []
        if requests := read_requests(results, of_suite, states_of(results, task), task):
            about = ABOUT_ANSWERS.format(
                task=as_myst(TASKS[task].label), model=as_myst(model), most=MOST_ANSWERS
            )
            pages[f"answers_{task}"] = answers_page(requests, about, MOST_ANSWERS)
            records += [{"task": task} | one for one in as_records(requests)]
    if pages:
        save_answers(records, stage / "data")
    for name, text in pages.items():
        (stage / "book" / f"{name}.md").write_text(text, encoding="utf-8")
    return list(pages)


def contents(notebooks: list[Path], answers: list[str]) -> dict:
    files = [f"notebooks/{path.stem}" for path in notebooks]
    files += [f"book/{name}" for name in ("explorer", *answers, "method", "glossary")]
    chapters = [{"file": file} for file in files]
    return {"format": "jb-book", "root": "book/run", "chapters": chapters}


def links_out(notebook: str, chapters: Collection[str], repository: Mapping[str, str]) -> str:
    """A notebook whose links to chapters that are not in this book lead to the repository."""
    folder = f"{repository['url']}/blob/{repository['branch']}/notebooks"

    def link(found: re.Match) -> str:
        return found[0] if found[1] in chapters else f"]({folder}/{found[1]}.ipynb)"

    return re.sub(r"\]\((\w+)\.ipynb\)", link, notebook)


def config(plan: dict) -> dict:
    whole = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    # Colab would open the notebook as it stands in the repository, with other parameters.
    del whole["launch_buttons"]
    return whole | {"title": f"{short(plan)}: a run of width pruning"}


def short(plan: dict) -> str:
    return public_name(plan["request"]["model"]).split("/")[-1]


def front_page(plan: dict, record: dict, run: Path, stage: Path, notebooks: list[Path]) -> str:
    widths = [*(f"{ratio:g}x" for ratio in plan["request"]["ratios"])]
    widths += [f"{pct:g}% pruned" for pct in plan["request"]["pruning_pcts"]]
    return f"""# {as_myst(short(plan))} at {", ".join(widths)}

One run of `widthprune rerun`: the model below at these widths beside itself unpruned. Numbers from the paper are marked
as published in the chapters; everything on this page was measured in this run.

## Measured

{measured_tables(load_results(run / "results"))}

{missing(plan)}
## Verdicts of the chapters

{verdict_table(stage, notebooks)}

## To repeat it

```
{command_line(plan["request"])}
```

{record_table(record)}

The whole record is `record.json` in the run's folder, the results are in `results/`, one file each, and the executed
notebooks in `notebooks/`.
"""


def measured_tables(table: pd.DataFrame) -> str:
    """What the run measured, and below it what it measured in the chat template."""
    in_template = table["chat_template"]
    plain = measured_table(headline(table[~in_template]))
    if not in_template.any():
        return plain
    return f"{plain}\n\nIn the tokenizer's chat template:\n\n{measured_table(headline(table[in_template]))}"


def measured_table(rows: pd.DataFrame) -> str:
    """A row per model and width, a column per benchmark."""
    rows["criterion"] = criterion_labels(rows)
    rows["text"] = [with_error(*pair) for pair in zip(rows["value"], rows["stderr"], strict=True)]
    index = ["criterion", "expansion_ratio", "intermediate_size", "pruning_pct"]
    wide = rows.pivot(index=index, columns="task", values="text").fillna("")
    wide = wide.sort_index(level=["criterion", "expansion_ratio"], ascending=[False, False])
    tasks = [task for task in TASKS if task in wide.columns]
    heads = [
        "criterion",
        "d_ff / d_model",
        "neurons",
        "pruned",
        *(TASKS[task].label for task in tasks),
    ]
    heads = [as_myst(head) for head in heads]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for (criterion, ratio, size, pct), texts in zip(wide.index, wide[tasks].to_numpy(), strict=True):
        cells = [as_myst(criterion), f"{ratio:.2f}x", str(size), f"{pct:g}%", *texts]
        lines.append("| " + " | ".join(cells) + " |")
    items = rows.groupby("task")["n"].max()
    counts = as_myst(", ".join(f"{TASKS[task].label} {items[task]}" for task in tasks))
    return "\n".join(lines) + f"\n\n± is one standard error. Items: {counts}."


def verdict_table(stage: Path, notebooks: list[Path]) -> str:
    """Every verdict that the notebooks reached on this run's model, with a link to its chapter."""
    lines = ["| Claim | Published | Measured or recomputed | Verdict | Chapter |", "|---|---|---|---|---|"]
    for path in notebooks:
        notebook = json.loads((stage / "notebooks" / path.name).read_text(encoding="utf-8"))
        for found in collect(notebook):
            badge = f"{{bdg-{BADGES[found.outcome]}}}`{found.outcome}`"
            cells = [as_myst(text) for text in (found.claim, found.published, found.measured)]
            link = f"[{path.stem[:2]}](../notebooks/{path.name})"
            lines.append("| " + " | ".join([*cells, badge, link]) + " |")
    return "\n".join(lines) + "\n"


def missing(plan: dict) -> str:
    return "".join(
        f"- Missing: {as_myst(task)}, {as_myst(reason)}.\n" for task, reason in plan["missing"].items()
    )


def command_line(request: dict) -> str:
    """The command that asks the same question."""
    words = ["widthprune rerun --model", as_line(public_name(request["model"]))]
    for name in ("ratios", "pruning_pcts", "criteria", "suite", "experiments", "limit", "seed", "device"):
        value = request[name]
        if value not in (None, []):
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            words.append(f"--{name.replace('_', '-')} {text}")
    if request["chat_template"]:
        words.append("--chat-template")
    return " \\\n    ".join([" ".join(words[:2]), *words[2:]])


def record_table(record: dict) -> str:
    energy = record["energy"]
    used = f"{1000 * energy['energy_kwh']:.2f} Wh" if "energy_kwh" in energy else "not measured"
    if "cost" in energy:
        used += f", {energy['cost']:.4f} at {energy['price_per_kwh']:g} a kWh"
    rows = {
        "model revision": record["model_revision"],
        "device": ", ".join(record["devices"]),
        "time measuring": f"{record['duration_s']:.0f} s over {record['results']} results",
        "energy": f"{used} ({energy['energy_by']}; {energy['covers']})" if "energy_kwh" in energy else used,
        "commit": ", ".join(record["commits"]) or "not run from a checkout",
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        "data": ", ".join(f"{task} {data}" for task, data in record["data"].items()),
    }
    return "\n".join(
        ["| | |", "|---|---|", *(f"| {name} | {as_myst(text)} |" for name, text in rows.items())]
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
