# Slimwire: `make demo` and `make test` set up all they need in .venv, without root, from PyPI alone.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
DEMO_FLAGS ?=
BUNDLE ?=
FUZZ_RUNS ?= 1000000

.DEFAULT_GOAL := help
.PHONY: help setup setup-train setup-tflite demo test check format bench soak dist clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: missing Python >= 3.11 (Debian, Ubuntu: apt install python3 python3-venv)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: missing Python's venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp per set of extras: the demo needs less than the tests.
$(VENV)/.lab: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[lab]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.lab

# PyTorch first and by itself, so that a CPU build is taken where there is one.
$(VENV)/.train: pyproject.toml | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,train]'
	@touch $@

setup: $(VENV)/.dev ## everything but training, in .venv

setup-train: $(VENV)/.train ## what training needs as well (2 GB more)

# tflite-runtime has wheels for Python 3.11 at most, and needs numpy 1: an environment of its own.
setup-tflite: ## the environment in which a Linux device is tested on tflite-runtime, .venv-tflite
	@command -v python3.11 >/dev/null || { echo "make: missing Python 3.11, the last one that tflite-runtime has wheels for" >&2; exit 1; }
	python3.11 -m venv .venv-tflite
	.venv-tflite/bin/python -m pip install --quiet --disable-pip-version-check -e '.[device-tflite]'

demo: $(VENV)/.lab ## one latent's whole journey, under attack (BUNDLE=cifar10, DEMO_FLAGS="--seconds 30 --seed 7")
	$(BIN)/slimwire demo $(if $(BUNDLE),--bundle $(BUNDLE)) $(DEMO_FLAGS)

test: $(VENV)/.dev ## the whole suite; what is missing here is skipped visibly
	$(BIN)/python -m pytest

check: $(VENV)/.dev ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## format and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## measure parts against a peer or a limit
	$(BIN)/slimwire bench head
	$(BIN)/slimwire bench switch
	$(BIN)/slimwire bench device
	$(BIN)/slimwire bench fragments

soak: $(VENV)/.dev ## the long form: the fuzzers (FUZZ_RUNS=1000000 inputs a parser), then the soak tests
	$(BIN)/python -m tests.fuzz --target all --runs $(FUZZ_RUNS)
	SLIMWIRE_SOAK=1 $(BIN)/python -m pytest -m soak --timeout 7200

dist: $(VENV)/.dev ## a wheel and an sdist in dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

clean: ## remove .venv and everything built
	rm -rf $(VENV) .venv-tflite dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
