"""The pocket suite: small benchmarks of our own, in lm-eval's format. README.md says what each holds."""
