# Everything runs in an environment of its own, .venv, made on first use.

PYTHON ?= python3
# More flags for `make train`, for instance ARGS="--epochs=2".
ARGS ?=
# The same for trainers.local_cluster in `make cluster`.
CLUSTER_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_HUB := $(VENV)/.installed-hub
INSTALLED_DOCS := $(VENV)/.installed-docs
OLDEST := .venv-oldest
INSTALLED_OLDEST := $(OLDEST)/.installed

.DEFAULT_GOAL := help
.PHONY: help train cluster test test-oldest slow-test lint docs clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' \
	  Makefile

# A new folder each time, since a folder belongs to one run. ARGS comes last,
# so that it can name another.
train: $(INSTALLED)  ## train on the digits; ARGS="..." adds flags
	$(BIN)/python -m trainers.train --flagfile=configs/digits_fr.cfg \
	  --workdir=runs/digits_fr_$$(date +%Y%m%d-%H%M%S) $(ARGS)

cluster: $(INSTALLED)  ## the same on two workers on loopback
	$(BIN)/python -m trainers.local_cluster --num_workers=2 \
	  --private_network=auto $(CLUSTER_ARGS) -- \
	  --flagfile=configs/digits_fr.cfg \
	  --workdir=runs/digits_cluster_$$(date +%Y%m%d-%H%M%S) $(ARGS)

# A file in one process: its tests share runs of command lines.
test: $(INSTALLED)  ## run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile -q

test-oldest: $(INSTALLED_OLDEST)  ## run them on the oldest versions supported
	$(OLDEST)/bin/python -m pytest -n 2 --dist loadfile -q

# Here, because the largest networks need 14 GB each.
slow-test: $(INSTALLED_HUB)  ## run the tests that take long
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

lint: $(INSTALLED)  ## check the style
	$(BIN)/ruff check fr_keras trainers tests setup.py
	$(BIN)/mypy

# mkdocs writes site/; nothing is fetched from elsewhere.
docs: $(INSTALLED_DOCS)  ## make the documentation and API reference, in site/
	$(BIN)/mkdocs build --strict

clean:  ## remove the environment and all caches, keep runs/
	rm -rf $(VENV) $(OLDEST) build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find fr_keras trainers tests -name __pycache__ -prune -exec rm -rf {} +

# The stamp is touched last: after an interrupted install, the next make starts
# over. The newest Python is the newest that TensorFlow 2.21 has wheels for.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(not (3, 10) <= v <= (3, 13))' 2>/dev/null || { \
	  echo "fr_keras needs Python 3.10 to 3.13, and $(PYTHON) is none of them:" \
	    "make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make environments: install its venv module" \
	    "(Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -e '.[dev]'
	@touch $@

# KerasHub, which brings tensorflow-text along, is for the slow tests.
$(INSTALLED_HUB): $(INSTALLED)
	$(BIN)/python -m pip install -e '.[dev,hub]'
	@touch $@

$(INSTALLED_OLDEST): pyproject.toml
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install -e '.[dev]' 'tensorflow==2.20.*' \
	  'keras==3.15.*'
	@touch $@

$(INSTALLED_DOCS): $(INSTALLED)
	$(BIN)/python -m pip install -e '.[dev,docs]'
	@touch $@
