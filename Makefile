# A fresh clone needs python3 (3.10 or newer) and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable
# A stamp per set of packages: the set-up runs once, and again when one of these files changes.
REQUIREMENTS := pyproject.toml constraints.txt
DEMO_READY := $(VENV)/.ready-demo
DEV_READY := $(VENV)/.ready-dev

.PHONY: help venv install demo test check-format lint types docs check-docs tests format bench clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## /\1: /p' $(MAKEFILE_LIST)

venv: $(BIN)/python ## create .venv
install: $(DEMO_READY) ## install alexnet into .venv, with what the demo needs

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "error: $$($(PYTHON) -V) found, expected 3.10 or newer" >&2; echo "hint: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "error: python cannot create $(VENV)" >&2; echo "hint: on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(DEMO_READY): $(REQUIREMENTS) | $(BIN)/python
	@echo "installing alexnet and its demo into $(VENV): torch is large, this takes a few minutes once" >&2
	@$(PIP_INSTALL) '.[demo]'
	@touch $@

$(DEV_READY): $(REQUIREMENTS) | $(BIN)/python
	@echo "installing alexnet and its checks into $(VENV): torch is large, this takes a few minutes once" >&2
	@$(PIP_INSTALL) '.[demo,dev]'
	@touch $@ $(DEMO_READY)

demo: $(DEMO_READY) ## the five commands on 1,797 handwritten digits; leaves them in demo/
	@$(BIN)/alexnet demo

test: check-format lint types check-docs tests ## everything that CI checks

check-format: $(DEV_READY)
	$(BIN)/ruff format --check .

lint: $(DEV_READY)
	$(BIN)/ruff check .

types: $(DEV_READY)
	$(BIN)/mypy

check-docs: $(DEV_READY)
	$(BIN)/python docs/generate_cli.py --check

# Each file's tests stay together and in order. More than four workers would hold more networks than a laptop's memory does.
tests: $(DEV_READY)
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

format: $(DEV_READY) ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DEV_READY) ## write docs/cli.md from the commands' help
	$(BIN)/python docs/generate_cli.py

bench: $(DEV_READY) ## the speed ratios of docs/benchmarks.md
	$(BIN)/python -m benchmarks

clean: ## remove .venv, the demo and what the tools left
	rm -rf $(VENV) demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
