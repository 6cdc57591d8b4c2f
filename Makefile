# Every target sets up what it needs first; `make setup` alone only prepares .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo up test check lock format clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## make .venv with everything in it

$(READY): requirements-bootstrap.lock requirements-dev.lock pyproject.toml sandbox/pyproject.toml
	@echo "Setting up .venv (about a minute the first time) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Regie needs Python 3.11 or newer; $(PYTHON) is older. Set PYTHON=/path/to/python3.11."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python cannot make a virtual environment here. On Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --require-hashes -r requirements-dev.lock
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e . -e ./sandbox
	@touch $@

demo: $(READY)  ## run the main job on an imaginary outside world and sum it up
	@$(BIN)/regie demo

up: $(READY)  ## run Regie here until interrupted, with the imaginary outside world
	@$(BIN)/regie up --demo

test: $(READY)  ## every test
	@$(BIN)/pytest -n 4 --dist loadfile

check: $(READY)  ## format, lint, types, import contracts, fast tests
	@$(BIN)/ruff format --check --quiet . || { echo "Run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q -n 2 -m "not slow"

format: $(READY)  ## format the code and mend what lint can mend
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: $(READY)  ## pin the newest dependencies that pyproject.toml allows
	$(UV_COMPILE) --upgrade pyproject.toml -o requirements.lock
	$(UV_COMPILE) --upgrade --group dev --group build pyproject.toml -o requirements-dev.lock
	echo uv | $(UV_COMPILE) --upgrade - -o requirements-bootstrap.lock

clean:  ## stop what runs here, remove .venv and the local data
	@if test -x $(BIN)/regie; then $(BIN)/regie down || true; fi
	@rm -rf .venv .regie
