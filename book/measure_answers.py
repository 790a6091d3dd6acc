"""Measure the answers that the page of answers shows, into ``book/answers``; goes on where it was stopped.

    python book/measure_answers.py

The requests are drawn from the pocket suite by the seed of `widthprune.evaluation.evaluate.evaluate`, 0, never by hand.
"""

import tempfile
from pathlib import Path

from answers import ANSWERS, MODEL, TASK

from widthprune.audit.controls import random_initialised, twin_name
from widthprune.evaluation.evaluate import evaluate

REQUESTS = 24


def main() -> None:
    how = dict(limit=REQUESTS, results_dir=str(ANSWERS), save_samples=True)
    with tempfile.TemporaryDirectory() as scratch:
        twin = str(random_initialised(MODEL, Path(scratch) / twin_name(MODEL)))
        for template in (True, False):
            evaluate(MODEL, TASK, pruning_pcts=[10, 40, 60], chat_template=template, **how)
            evaluate(MODEL, TASK, pruning_pcts=[40], criteria=["RANDOM"], chat_template=template, **how)
            evaluate(twin, TASK, pruning_pcts=[], chat_template=template, **how)


if __name__ == "__main__":
    main()
