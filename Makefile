# The four commands of the project; each sets up first, which takes no time when nothing changed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: setup run test lint format help

INPUTS := pyproject.toml scripts/setup.sh
BIN := .venv/bin

# New build options (make setup CMAKE_ARGS=-DGGML_CUDA=on) set up again.
ifneq ($(origin CMAKE_ARGS),undefined)
ifneq ($(CMAKE_ARGS),$(shell cat .venv/.cmake-args 2>/dev/null))
INPUTS += again
endif
endif
.PHONY: again

help:
	@echo "make setup   create .venv/ with the hearsee command"
	@echo "make run     set up and talk to Hearsee"
	@echo "make test    set up with the developer's tools, lint, run the tests"
	@echo "make lint    ruff, mypy, import-linter"

setup: .venv/.ready
	@echo "setup: all there; try .venv/bin/hearsee, or make run"

.venv/.ready: $(INPUTS)
	@scripts/setup.sh
	@touch $@

.venv/.ready-dev: $(INPUTS)
	@scripts/setup.sh dev
	@touch .venv/.ready $@

run: .venv/.ready
	@$(BIN)/hearsee

lint: .venv/.ready-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.ready-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

test: lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)
