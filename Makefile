# make demo: the whole system on a laptop, in minutes.   make test: every test.
# Both set up .venv first; a second call finds it ready.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test lint setup clean

PYTHON ?= python3
VENV ?= .venv
DEMO ?= runs/demo
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# XLA's CPU temporaries are given back to the system and faulted in again at every step, unless
# glibc is told to keep them: a quarter of a step's time.
KEEP_MEMORY := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=268435456

demo: $(VENV)/.ready
	JAX_PLATFORMS=cpu $(KEEP_MEMORY) $(BIN)/filax demo --workdir $(DEMO)

test: $(VENV)/.ready-test
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .

setup: $(VENV)/.ready

clean:
	rm -rf $(VENV) build dist runs *.egg-info .pytest_cache .ruff_cache .hypothesis

$(VENV)/.ready: pyproject.toml requirements.txt | $(BIN)/python
	$(PIP) install -e .
	touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	$(PIP) install -e '.[test]'
	touch $@

# Where Python comes without its venv (Debian), pip brings virtualenv.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "FiLax needs Python 3.11 or newer; $(PYTHON) is older. Set PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  $(PYTHON) -m pip install --quiet --target build/virtualenv virtualenv; \
	  PYTHONPATH=build/virtualenv $(PYTHON) -m virtualenv --quiet $(VENV); }
