# Every target sets up what it needs: `make demo` and `make test` work on a machine with Python 3.11, git and make.
PYTHON ?= python3
VENV   := .venv
READY  := $(VENV)/.ready
RUN    := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
# A worker a core; one that has done its tests takes over some of another's.
PYTEST := $(RUN) pytest --numprocesses logical --maxprocesses 4 --dist worksteal

# $(call SAY_TIME,WHAT): how long it took since make was started.
BEGAN    := $(shell date +%s)
SAY_TIME = took=$$(( $$(date +%s) - $(BEGAN) )); echo "$(1): $$(( took / 60 )) min $$(( took % 60 )) s"

# The release to compare with, as in pyproject.toml; an index that has a build for CPUs only gives that one.
TORCH := torch==2.13.0

# The demo's study, small enough for two minutes: bundled digits, nothing to download.
DEMO := data.name=digits base.seeds=[0] \
  lenet.epochs=8 lenet.batch_size=32 \
  resnet.epochs=8 resnet.batch_size=16 resnet.input_size=16 \
  transfer.weights=random transfer.input_size=32 transfer.epochs=8 transfer.batch_size=32 \
  finetune.epochs=2 finetune.batch_size=32 finetune.unfreeze=6 \
  search.num_trials=6 search.epochs=3 search.confirm_seeds=[5,6] \
  evaluate.corruption_samples=100 evaluate.latency_rounds=50

.DEFAULT_GOAL := help
.PHONY: help setup demo reproduce test test-all test-network check bench lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## create .venv from requirements.lock (done by every other target on first use)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Cotejo needs Python 3.11 or newer. Received: $$($(PYTHON) --version). Try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "Setting up $(VENV), once: $$(grep -c '^[a-z]' requirements.lock) packages, 3.7 GB; half a minute with uv, three with pip."
	@if command -v uv >/dev/null; then \
	  echo "  1 of 3: installing packages with uv ..." && \
	  uv venv --quiet --allow-existing --python "$(PYTHON)" $(VENV) && \
	  uv pip sync --quiet --python $(VENV)/bin/python --require-hashes requirements.lock && \
	  echo "  2 of 3: installing Cotejo ..." && \
	  uv pip install --quiet --python $(VENV)/bin/python --no-deps --no-build-isolation -e . ; \
	else \
	  echo "  1 of 3: downloading and installing packages with pip ..." && \
	  $(PYTHON) -m venv $(VENV) && \
	  $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements.lock && \
	  echo "  2 of 3: installing Cotejo ..." && \
	  $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@# once and on all cores: it halves the start of every process that imports TensorFlow
	@echo "  3 of 3: compiling them ..."
	@$(VENV)/bin/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || true
	@touch $@
	@$(call SAY_TIME,Set up)

demo: $(READY)  ## the whole study on bundled digits, in the folder demo/: under two minutes, no download
	@git rev-parse --quiet --verify HEAD >/dev/null || { echo "make demo needs a Git clone of Cotejo, with its history." >&2; exit 2; }
	@rm -rf demo && git clone --quiet --no-hardlinks . demo
	@git diff --binary --no-ext-diff --no-color --src-prefix=a/ --dst-prefix=b/ HEAD >demo/.git/changes
	@git -C demo apply --allow-empty .git/changes
	@cd demo && $(RUN) dvc exp run $(addprefix -S ,$(DEMO))
	@echo "The report: demo/reports/comparison.html   The runs: cd demo && ../$(VENV)/bin/mlflow ui"

reproduce: $(READY)  ## the study as params.yaml declares it; what is up to date isn't run again
	@$(RUN) dvc repro
	@echo "The report: reports/comparison.html"

test: $(READY)  ## the tests, without a network: nine minutes on two fast cores, about twenty on slow ones
	@echo "Testing: the first dot appears when every worker has imported TensorFlow ..."
	@$(PYTEST); code=$$?; $(call SAY_TIME,make test); exit $$code

test-all: $(READY)  ## every test: random kills, all exports, a server and a browser (installed as root) too
	@echo "Testing: the first dot appears when every worker has imported TensorFlow ..."
	@$(PYTEST) -m "not network"; code=$$?; $(call SAY_TIME,make test-all); exit $$code

test-network: $(READY)  ## ask the public addresses of data and weights whether they still answer
	@$(RUN) pytest -m network

check: $(READY)  ## lint, format, types, and the pipeline's rules
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) cotejo check

bench: $(READY)  ## measure speed and memory on this machine against Keras, PyTorch and Optuna: two hours and a half
	@# PyTorch is an opponent and nothing that Cotejo needs, so it isn't in requirements.lock
	@if ! $(VENV)/bin/python -c 'import torch' 2>/dev/null; then \
	  echo "Installing PyTorch into $(VENV), to compare with ..."; \
	  if command -v uv >/dev/null; then uv pip install --quiet --python $(VENV)/bin/python $(TORCH); \
	  else $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH); fi || \
	  echo "PyTorch can't be had here: its rows will say so." >&2; \
	fi
	@$(RUN) python benchmarks/run.py

lock: $(READY)  ## pin the newest versions that pyproject.toml allows (needs uv)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade \
	  --extra dev --extra export --custom-compile-command "make lock" pyproject.toml -o requirements.lock

clean:  ## remove the demo and what tools cache; keeps data, models and runs
	@rm -rf demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
