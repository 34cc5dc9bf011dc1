# make demo: the whole system on a laptop, in minutes.   make test: every test.
# make check: lint and quick tests, in three minutes.
# All set up .venv first; a second call finds it ready.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test check test-long fuzz plan test-transformers4 lint setup clean

PYTHON ?= python3
VENV ?= .venv
DEMO ?= runs/demo
MINUTES ?= 30
WORKERS ?= 3
TRANSFORMERS4 ?= $(VENV)/transformers4
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Tests wait for processes and disks a third of the time, so three workers keep two cores busy; each
# takes up to 2 GB.
PYTEST := JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
  --no-loadscope-reorder

# XLA's CPU temporaries are given back to the system and faulted in again at every step, unless
# glibc is told to keep them: a quarter of a step's time.
KEEP_MEMORY := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=268435456

demo: $(VENV)/.ready
	JAX_PLATFORMS=cpu $(KEEP_MEMORY) $(BIN)/filax demo --workdir $(DEMO)

test: $(VENV)/.ready-test
	$(PYTEST)

# Before a commit: lint and the tests that are not marked slow. One that has become so is listed.
check: lint
	$(PYTEST) -m 'not slow and not long' --durations 5

# Damaged pictures, videos, manifests and caches for MINUTES minutes; inputs that fail stay below
# runs/fuzz/. The seed is printed; FILAX_FUZZ_SEED=N repeats it.
fuzz: $(VENV)/.ready-test
	FILAX_FUZZ_MINUTES=$(MINUTES) $(BIN)/python -m pytest -n 0 -s tests/fuzz

# Tests that take minutes, such as a killed run on a bucket; one after the other.
test-long: $(VENV)/.ready-test
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -m long

# What filax convert writes, in transformers 4.57 and in the installed version: same keys, same logits.
test-transformers4: $(VENV)/.ready-test $(TRANSFORMERS4)/.ready
	JAX_PLATFORMS=cpu FILAX_OTHER_TRANSFORMERS=$(TRANSFORMERS4)/bin/python \
	  $(BIN)/python -m pytest tests/parity/test_convert_transformers4.py

# Compiles every stage for slices of TPUs that need not be there: hours; docs/plan.md.
plan: $(VENV)/.ready-test
	JAX_PLATFORMS=cpu $(BIN)/python benchmarks/plan_grid.py

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

setup: $(VENV)/.ready

clean:
	rm -rf $(VENV) build dist runs *.egg-info .pytest_cache .ruff_cache .hypothesis

$(VENV)/.ready: pyproject.toml requirements.txt | $(BIN)/python
	$(PIP) install -e .
	touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	$(PIP) install -e '.[test]'
	touch $@

$(TRANSFORMERS4)/.ready: | $(BIN)/python
	$(PIP) install virtualenv
	$(BIN)/python -m virtualenv --quiet $(TRANSFORMERS4)
	$(TRANSFORMERS4)/bin/python -m pip --disable-pip-version-check --quiet install \
	  'transformers>=4.57,<5' torch==2.13.0 safetensors sentencepiece av pillow
	touch $@

# Where Python comes without its venv (Debian), pip brings virtualenv.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "FiLax needs Python 3.11 or newer; $(PYTHON) is older. Set PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  $(PYTHON) -m pip install --quiet --target build/virtualenv virtualenv; \
	  PYTHONPATH=build/virtualenv $(PYTHON) -m virtualenv --quiet $(VENV); }
