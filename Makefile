# `make demo` and `make test` are all that most people need. Both keep what they install in $(VENV).
# Other Pythons and places: make demo PYTHON=python3.12 VENV=/somewhere/else

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Files that say an installation came to its end: the next `make` begins where this one stopped.
DEMO_DONE := $(VENV)/.neurarium-demo
TEST_DONE := $(VENV)/.neurarium-test

.PHONY: help demo test lint clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   install, index the bundled model over the bundled corpus, and serve it"
	@echo "make test   install what tests need, and run all of them"
	@echo "make lint   the first half of make test: format, lint, types, imports"
	@echo "make clean  remove $(VENV), caches and builds; databases stay"

demo: $(DEMO_DONE)
	@$(BIN)/neurarium demo

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

# The build backend comes first and from constraints.txt too, so that nothing at all is unpinned.
define install
	@echo "==> Installing $(1) into $(VENV) (the first time takes some minutes)"
	@$(PIP) install --quiet --constraint constraints.txt hatchling editables
	@$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable "$(1)"
	@rm -f $(VENV)/.unfinished
	@touch $@
endef

$(DEMO_DONE): pyproject.toml constraints.txt $(BIN)/python | venv
	$(call install,.)

$(TEST_DONE): pyproject.toml constraints.txt $(BIN)/python | venv
	$(call install,.[test])

$(BIN)/python: | venv
	@:

# Makes the environment; one that we began and never finished is made anew, one without pip gets it.
.PHONY: venv
venv:
	@command -v $(PYTHON) >/dev/null || { \
	    echo "Neurarium needs Python 3.11 or newer, and there is no $(PYTHON) here." \
	        "Name another: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Neurarium needs Python 3.11 or newer; $(PYTHON) is" \
	        "$$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@if [ -e $(VENV)/.unfinished ] || [ -f $(VENV)/pyvenv.cfg -a ! -e $(BIN)/python ]; then \
	    echo "==> Removing $(VENV), which is not whole"; rm -rf $(VENV); fi
	@if [ ! -e $(VENV) ]; then \
	    mkdir -p $(VENV) && touch $(VENV)/.unfinished && $(PYTHON) -m venv $(VENV); \
	elif ! $(PIP) --version >/dev/null 2>&1; then \
	    $(PYTHON) -m venv $(VENV); fi

clean:
	@if [ -f $(VENV)/pyvenv.cfg ] || [ -e $(VENV)/.unfinished ]; then rm -rf $(VENV); fi
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find app indexer tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
