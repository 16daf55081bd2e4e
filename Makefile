# make reproduce     the main job: everything of SCALE (quick by default), judged and reported
# make browse        MLflow's pages of the runs, on PORT (5000)
# make test          the test suite
# make test-browser  the pages in a real browser; installs what it needs
# make performance   what the machinery costs, on an idle machine; writes docs/performance.md
# make test-cluster  the Slurm profile on a Slurm of its own (Debian or Ubuntu, as root)
# make chaos         kills, full disks, damaged files for MINUTES (10); writes docs/reliability.md
# make lint          ruff, mypy, snakefmt, snakemake --lint
PYTHON      ?=
VENV        ?= .venv
SCALE       ?= quick
PAPERS      ?= all
BENCHMARKS  ?= all
CORES       ?= all
PORT        ?= 5000
MINUTES     ?= 10
SEED        ?= 0
TORCH_INDEX ?=
CLUSTER     ?= cluster and not slow
RUN          = PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
SNAKEMAKE    = $(RUN) snakemake --cores $(CORES)

.PHONY: reproduce browse test test-browser test-cluster chaos performance lint clean help

help:
	@sed -n '1,8p' Makefile

reproduce: $(VENV)/.installed
	@$(SNAKEMAKE) --config scale=$(SCALE) papers=$(PAPERS) benchmarks=$(BENCHMARKS)
	@cat reports/$(SCALE)/summary.md

browse: $(VENV)/.installed
	@$(RUN) python -m rankrepro.tracking.ui results $(PORT)

test: $(VENV)/.installed
	@$(RUN) python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=10 tests

test-browser: $(VENV)/.installed
	@$(VENV)/bin/python -c 'import playwright' 2>/dev/null || $(VENV)/bin/pip install -c requirements.lock --no-build-isolation -e '.[browser]'
	@command -v chromium >/dev/null || { apt-get update && apt-get install -y --no-install-recommends chromium; } \
	|| { echo "no Chromium: install the package 'chromium' of your system, then run this again" >&2; exit 1; }
	@RANKREPRO_BROWSER=chromium $(RUN) python -m pytest -q tests/browser

test-cluster: $(VENV)/.installed
	@tests/cluster/install.sh
	@$(RUN) python -m pytest -q -rs -m "$(CLUSTER)" tests/cluster

chaos: $(VENV)/.installed
	@$(RUN) PYTHONPATH=tests python -m chaos --minutes $(MINUTES) --seed $(SEED) --write docs/reliability.md

performance: $(VENV)/.installed
	@$(RUN) python tests/performance --write docs/performance.md

lint: $(VENV)/.installed
	@$(RUN) ruff check . && $(RUN) ruff format --check . && $(RUN) mypy
	@$(RUN) snakefmt --check Snakefile workflow
	@$(RUN) snakemake --lint --config scale=quick

# what was installed for another place (a checkout that was copied or moved) is installed again
ifneq ($(shell cat $(VENV)/.installed 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/.installed
endif

# TORCH_INDEX picks PyTorch's own CPU or CUDA index; the package index alone is the default
$(VENV)/.installed: requirements.lock pyproject.toml
	@workflow/venv.sh "$(VENV)" "$(PYTHON)"
	$(if $(TORCH_INDEX),$(VENV)/bin/pip install --index-url $(TORCH_INDEX) "$$(grep '^torch==' requirements.lock)")
	$(VENV)/bin/pip install -r requirements.lock
	$(VENV)/bin/pip install --no-deps --no-build-isolation -e .
	@echo "$(CURDIR)" >$@

clean:
	rm -rf results reports/quick .snakemake
