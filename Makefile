# Needs Python >= 3.11 with pip, and make. Everything runs in a private .venv, made on demand.
# Another interpreter: make PYTHON=python3.12 test      Arguments: make test ARGS='tests/unit -x'

PYTHON ?= python3
ARGS ?=

# Where it is set, each of the many processes that tests and benchmarks start would compile all of toolring anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check
INSTALLED := $(VENV)/.installed
INSTALLED_BENCH := $(VENV)/.installed-bench

.DEFAULT_GOAL := help
.PHONY: help demo test test-services lint format types house check docs bench bench-cache bench-flow bench-live bench-metrics bench-nodes bench-services bench-simulate bench-traces clean bench-pools bench-renewal bench-bodies

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

demo: $(INSTALLED) ## start a node, call tools, kill a worker, show what happened
	@$(VENV)/bin/toolring demo $(ARGS)

test: $(INSTALLED) ## the whole test suite, three files at a time: they often wait
	@$(PY) -m pytest -n 3 --dist loadfile $(ARGS)

test-services: $(INSTALLED) ## the tests against real servers; needs redis-server, postgresql, prometheus
	@$(PY) -m pytest -n 2 --dist loadfile -m services $(ARGS)

lint: $(INSTALLED) ## ruff: rules and format
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --quiet --check . || { echo "unformatted files (list: ruff format --check); run: make format"; exit 1; }

format: $(INSTALLED) ## ruff: apply the format and the safe fixes
	@$(PY) -m ruff check --quiet --fix-only .
	@$(PY) -m ruff format --quiet .

types: $(INSTALLED) ## mypy --strict
	@$(PY) -m mypy --no-error-summary

house: $(INSTALLED) ## report sizes over the house's marks (never fails)
	@$(PY) -m tests.house.report

check: lint types test ## what must pass before a commit

bench: $(INSTALLED_BENCH) ## run the benchmarks and write docs/benchmarks.md
	@$(PY) -m benchmarks.run --docs docs/benchmarks.md $(ARGS)

bench-cache: $(INSTALLED_BENCH) ## what cached results cost, what affinity is worth: docs/caching-benchmarks.md
	@$(PY) -m benchmarks.caching --docs docs/caching-benchmarks.md

bench-flow: $(INSTALLED_BENCH) ## overload, fairness and batches: docs/flow-benchmarks.md
	@$(PY) -m benchmarks.flow --docs docs/flow-benchmarks.md

bench-live: $(INSTALLED_BENCH) ## async tools, streams, batches, the adaptive limit: docs/live-benchmarks.md
	@$(PY) -m benchmarks.live --docs docs/live-benchmarks.md

bench-metrics: $(INSTALLED_BENCH) ## what counting costs, a page of a thousand tools: docs/metrics-benchmarks.md
	@$(PY) -m benchmarks.metrics --docs docs/metrics-benchmarks.md

bench-nodes: $(INSTALLED_BENCH) ## what routing costs, what a killed node costs: docs/node-benchmarks.md
	@$(PY) -m benchmarks.nodes --docs docs/node-benchmarks.md

bench-renewal: $(INSTALLED_BENCH) ## how soon successors are ready, a tool that leaks: docs/renewal-benchmarks.md
	@$(PY) -m benchmarks.renewal --docs docs/renewal-benchmarks.md

bench-bodies: $(INSTALLED_BENCH) ## large arguments and results, and other ways to carry them: docs/body-benchmarks.md
	@$(PY) -m benchmarks.bodies --docs docs/body-benchmarks.md

bench-services: $(INSTALLED_BENCH) ## balancers before real workers and HTTP endpoints: docs/service-benchmarks.md
	@$(PY) -m benchmarks.services --docs docs/service-benchmarks.md

bench-pools: $(INSTALLED_BENCH) ## pools of resources, objects and buffers: docs/pool-benchmarks.md
	@$(PY) -m benchmarks.pools --docs docs/pool-benchmarks.md

bench-simulate: $(INSTALLED_BENCH) ## the policies in a simulated cluster: docs/simulation.md
	@$(PY) -m benchmarks.simulate --docs docs/simulation.md

bench-traces: $(INSTALLED_BENCH) ## replay cache traces over all strategies: docs/caching-strategies.md
	@$(PY) -m benchmarks.replay --docs docs/caching-strategies.md

docs: $(INSTALLED) ## build the documentation into build/docs
	@$(PY) -m sphinx -W --keep-going -q -b html docs build/docs

clean: ## remove what tools leave behind (not .venv)
	@rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -path ./.git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# The venv: `python3 -m venv`; where ensurepip is missing, pip of the system fills it; else say what to install.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "toolring needs Python >= 3.11, and '$(PYTHON)' is none; try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 \
	    || $(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 \
	    || { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --quiet --python $(PY) install pip; } >/dev/null 2>&1 \
	    || { rm -rf $(VENV); echo "'$(PYTHON)' can't make a virtual environment: its venv or ensurepip is missing." >&2; \
	         echo "Debian, Ubuntu: apt install python3-venv   (or the one of your version: python3.11-venv)" >&2; exit 1; }
	@$(PIP) install --editable '.[dev]'
	@touch $@

$(INSTALLED_BENCH): $(INSTALLED)
	@$(PIP) install --editable '.[bench]'
	@touch $@
