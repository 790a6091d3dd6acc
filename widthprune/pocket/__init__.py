"""The pocket suite: small benchmarks of our own, in lm-eval's format. README.md says what each holds."""

from pathlib import Path

# What criteria that need a text look at by default: written for this repository and apart from the prose that is measured.
DEFAULT_TEXT = Path(__file__).parent / "data" / "calibration.jsonl"
