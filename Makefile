# `make` prints what there is. Python >= 3.11 is all that must be installed.
PY ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEEDS ?= 1
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo ablation test test-all fuzz lint types format arch check benchmark soak build clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(STAMP) ## make .venv with the package and the development tools

$(STAMP): pyproject.toml
	$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PY=python3.12")'
	$(PY) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

demo: $(STAMP) ## baseline, + IBPP, + SOE, + UE on toy scenes: train, evaluate, draw (no download, no GPU)
	scripts/demo.sh

ablation: $(STAMP) ## tables 3 to 6 and a report on toy scenes, in runs/ablation; SEEDS=3 for more
	SEEDS=$(SEEDS) scripts/ablation.sh

test: $(STAMP) ## the test suite without its slow part
	$(BIN)/python -m pytest -m "not slow"

test-all: $(STAMP) ## the whole test suite (REFINE_COCO_ROOT and REFINE_GOLDEN_ROOT add real data)
	$(BIN)/python -m pytest

fuzz: $(STAMP) ## 10 000 damaged files: every reader takes them or refuses them in one line (CASES, SEED)
	PYTHONPATH=tests $(BIN)/python tests/fuzz_borders.py --cases $(or $(CASES),10000) --seed $(or $(SEED),0)

lint: $(STAMP) ## ruff: style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

format: $(STAMP) ## let ruff write the format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

arch: $(STAMP) ## import rules and size limits
	$(BIN)/python -m pytest tests/test_architecture.py

check: lint types test ## what CI runs

benchmark: $(STAMP) ## our kernels against plain ones, side by side
	$(BIN)/python scripts/benchmark pq loading

soak: $(STAMP) ## kills trainings at random moments, watches memory (docs/reliability.md)
	$(BIN)/python scripts/soak.py

build: $(STAMP) ## wheel and source archive in dist/
	$(BIN)/python -m build

clean: ## remove what the commands above made, but not your runs and data
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
