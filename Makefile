# Every target makes what it needs; `make` alone lists them.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
export PYTHONPATH :=

.DEFAULT_GOAL := help
.PHONY: help demo test check fmt verify chaos kill-loop bench stack-up stack-down clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11; install Python 3.11 or later, or name one: make PYTHON=python3.12"; exit 2; }
	@echo "making $(VENV) from requirements-dev.lock"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(READY) ## the pipeline in about a minute: run, kill -9, recover, verify (STACK=embedded needs no Java)
	@scripts/demo

test: $(READY) ## every test, those on a real Kafka and Cassandra included
	@$(VENV)/bin/pytest

check: $(READY) ## format, lint, types, architecture
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/pytest --quiet tests/test_architecture.py

fmt: $(READY) ## format the code
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

stack-up: $(READY) ## start Kafka, Cassandra, producers and engine as plain processes (STACK=embedded)
	@scripts/stack up

stack-down: $(READY) ## stop what stack-up started
	@scripts/stack down

verify: $(READY) ## prove the result tables of the running stack exact
	@scripts/verify

chaos: $(READY) ## break the stack on purpose and prove it still exact (FAULT=engine-kill|kafka-restart|cassandra-restart SEED= RUNS=)
	@scripts/chaos

kill-loop: $(READY) ## kill -9 the engine KILLS times in every phase of a batch and prove the tables exact (STACK= KILLS= SEED=)
	@$(VENV)/bin/python -m tools.killloop

bench: $(READY) ## the engine beside a hand-written loop in one run, and the fixed cost of a batch
	@$(VENV)/bin/python -m tools.bench

clean: ## remove the virtual environment and all data of stacks
	@if [ -x $(VENV)/bin/python ]; then scripts/stack down || true; fi
	rm -rf $(VENV) .stack .demo .bench
