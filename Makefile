# Every target sets up what it needs: Python 3.11 or newer, make and a package registry suffice.
# `make -s demo` is quieter; `make PYTHON=python3.12 install` picks another Python.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
# One process per core, each with one thread. A process takes tests that lie side by side, which
# share what a module makes once, and takes over from another when it is done.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal
# `make test MARKED="not gpu"` is both in one call.
MARKED := not slow and not gpu

# The working tree's packages are found through the install, never through the caller's path.
unexport PYTHONPATH

.PHONY: help install demo test test-slow lint docs clean

help:
	@echo "make install    a virtual environment in $(VENV), once"
	@echo "make demo       simulate, pretrain, fine-tune, score; writes demo/report.html"
	@echo "make test       every test not marked slow or gpu"
	@echo "make test-slow  the slow tests"
	@echo "make lint       ruff, mypy"
	@echo "make docs       the documentation, into site/"
	@echo "make clean      remove the environment, caches and built pages"

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "matey needs Python 3.11 or newer: make PYTHON=python3.12 install" >&2; exit 1; }
	@echo "installing into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e ".[test,lint]"
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	@$(PIP) -e ".[docs]"
	@touch $@

# Ten minutes in all: the demo has what the installation leaves.
demo: BEGAN := $(shell date +%s)
demo: install
	$(BIN)/matey demo --again --minutes $$(( ($(BEGAN) + 600 - $$(date +%s)) / 60 ))

test: install
	$(PYTEST) -m "$(MARKED)"

test-slow: install
	$(PYTEST) -m "slow and not gpu"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed-docs
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
