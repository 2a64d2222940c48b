# `make demo` and `make test` are all that most people need. What they install stays in $(VENV).
# Another Python, another place: make demo PYTHON=python3.12 VENV=/somewhere/else

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
QUIET := $(if $(CI),--quiet)
PIP := $(BIN)/python -m pip --disable-pip-version-check

# A file that says an installation came to its end: without it, the next `make` carries on.
DEMO_DONE := $(VENV)/.neurarium-demo
TEST_DONE := $(VENV)/.neurarium-test

.PHONY: help demo test lint hashes clean venv

help:
	@echo "make demo   install, index the bundled model over the bundled corpus, and serve it"
	@echo "make test   install what tests need, and run all of them"
	@echo "make lint   the first half of make test: format, lint, types, imports"
	@echo "make hashes renew docker-requirements.txt after a change of constraints.txt"
	@echo "make clean  remove $(VENV), caches and builds; databases stay"

# Ctrl-C, by which a server is stopped, is no failure.
demo: $(DEMO_DONE)
	@$(BIN)/neurarium demo || [ $$? -eq 130 ]

test: lint
	@echo "==> Tests (pytest)"
	@$(BIN)/python -m pytest

lint: $(TEST_DONE)
	@echo "==> Format (ruff format)"
	@$(BIN)/ruff format --check .
	@echo "==> Lint (ruff check)"
	@$(BIN)/ruff check .
	@echo "==> Types (mypy)"
	@$(BIN)/mypy
	@echo "==> Imports (import-linter)"
	@$(BIN)/lint-imports --no-logo

hashes: $(TEST_DONE)
	@$(BIN)/python -m tests.project.hashed_requirements

# What builds is installed first and used as it is, so that constraints.txt pins it too: hatchling for
# the project, a setuptools newer than Python's own for a dependency that comes as source only.
define install
	@echo "==> Installing $(1) into $(VENV): minutes the first time, seconds after that"
	@$(PIP) install $(QUIET) --constraint constraints.txt hatchling editables setuptools
	@$(PIP) install $(QUIET) --constraint constraints.txt --no-build-isolation --editable "$(1)"
	@touch $@
endef

$(DEMO_DONE): pyproject.toml constraints.txt $(BIN)/python
	$(call install,.)

$(TEST_DONE): pyproject.toml constraints.txt $(BIN)/python
	$(call install,.[test])

$(BIN)/python: | venv
	@:

# An environment that we began and never finished, or whose Python is gone, is made anew. One that
# somebody else made is used as it is, and given pip if it has none.
venv:
	@set -e; \
	whole() { [ ! -e $(VENV)/.unfinished ] && $(PIP) --version >/dev/null 2>&1; }; \
	new_enough() { \
	    "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	        echo "Neurarium needs Python 3.11 or newer, and $$1 is" \
	            "$$("$$1" --version 2>/dev/null || echo missing)." \
	            "Name another: make PYTHON=/path/to/python3.11" >&2; exit 1; }; }; \
	if ! whole; then \
	    new_enough "$(PYTHON)"; \
	    if [ -e $(VENV)/.unfinished ] || { [ -f $(VENV)/pyvenv.cfg ] && [ ! -e $(BIN)/python ]; }; then \
	        echo "==> Making $(VENV) anew: it was not whole"; rm -rf $(VENV); \
	    fi; \
	    if [ ! -e $(VENV) ]; then mkdir -p $(VENV); touch $(VENV)/.unfinished; fi; \
	    "$(PYTHON)" -m venv $(VENV); \
	    rm -f $(VENV)/.unfinished; \
	fi; \
	new_enough $(BIN)/python

clean:
	@if [ -f $(VENV)/pyvenv.cfg ] || [ -e $(VENV)/.unfinished ]; then rm -rf $(VENV); fi
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
