# make reproduce   the main job: everything of SCALE (quick by default), judged and reported
# make test        the test suite
# make test-cluster   the Slurm profile on a Slurm of its own (Debian or Ubuntu, as root)
# make lint        ruff, mypy, snakefmt, snakemake --lint
PYTHON      ?= python3.11
VENV        ?= .venv
SCALE       ?= quick
PAPERS      ?= all
CORES       ?= all
TORCH_INDEX ?=
CLUSTER     ?= cluster and not slow
RUN          = PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
SNAKEMAKE    = $(RUN) snakemake --cores $(CORES)

.PHONY: reproduce test test-cluster lint clean help

help:
	@sed -n '1,4p' Makefile

reproduce: $(VENV)/.installed
	@$(SNAKEMAKE) --config scale=$(SCALE) papers=$(PAPERS)
	@cat reports/$(SCALE)/summary.md

test: $(VENV)/.installed
	@$(RUN) python -m pytest -q tests

test-cluster: $(VENV)/.installed
	@tests/cluster/install.sh
	@$(RUN) python -m pytest -q -rs -m "$(CLUSTER)" tests/cluster

lint: $(VENV)/.installed
	@$(RUN) ruff check . && $(RUN) ruff format --check . && $(RUN) mypy
	@$(RUN) snakefmt --check Snakefile workflow
	@$(RUN) snakemake --lint --config scale=quick

# TORCH_INDEX picks PyTorch's own CPU or CUDA index; the package index alone is the default
$(VENV)/.installed: requirements.lock pyproject.toml
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(VENV)/bin/pip install --index-url $(TORCH_INDEX) "$$(grep '^torch==' requirements.lock)")
	$(VENV)/bin/pip install -r requirements.lock
	$(VENV)/bin/pip install --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf results reports/quick .snakemake
