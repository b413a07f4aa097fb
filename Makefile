# Only Python 3.11 or later and make are needed; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo test check soak mutants bench docs clean

help: ## show what make can do
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | \
		awk -F': ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

demo: $(STAMP) ## run a demo application on a database of its own
	pgsaas demo

test: $(STAMP) ## run the tests, quick tier
	python -m pytest -n 2 --durations=10 -m 'not soak'

check: $(STAMP) ## lint, types, layers and migrations
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	squawk --config .ci/squawk.toml $(filter-out %.rollback.sql,$(wildcard migrations/*.sql))

soak: $(STAMP) ## run the long tests; counts and seed are printed
	python -m pytest -n 2 --durations=10 -m soak -rP

mutants: $(STAMP) ## plant faults and see that a test notices each
	python -m tests.mutants

bench: $(STAMP) ## measure
	python -m bench

docs: $(STAMP) ## write docs/schema.sql and docs/sql-api.md anew
	python docs/generate.py

clean: ## delete what make made
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so a half-made environment is made again.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'pgsaas needs Python 3.11 or later: make PYTHON=python3.11 …' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo 'this Python has no venv: on Debian or Ubuntu apt install python3-venv' >&2; \
		exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,embedded,cli]'
	@touch $@
