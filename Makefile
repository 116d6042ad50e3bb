# Every target makes what it needs; `make` alone lists them.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
export PYTHONPATH :=
# The stack that is meant: STACK, or the one that is up, if any. That in containers needs no Python on this machine. A variable of
# the command line comes into $(shell) from make 4.4 on.
MEANT = $(or $(STACK),$(shell $(if $(DATA_DIR),export DATA_DIR='$(DATA_DIR)';) \
  . scripts/settings.sh; find_stack; find_plain; echo "$$STACK"))
# The tests that are part of `check`; `make check test` runs them once.
SHAPE := tests/test_architecture.py tests/test_quarantines.py tests/test_shape.py

.DEFAULT_GOAL := help
.PHONY: help venv up down logs verify chaos soak demo test test-compose test-spark test-drills check fmt kill-loop parity bench screenshots clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11; install Python 3.11 or later, or name one: make PYTHON=python3.12"; exit 2; }
	@echo "making $(VENV) from requirements-dev.lock"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

venv: $(READY) ## .venv with the developers' tools (needs Python 3.11)
	@echo "$(VENV) is there"

up: $(if $(filter processes embedded,$(STACK)),$(READY)) ## the whole stack in containers, healthy (PROFILE= STACK=)
	@scripts/up

down: ## end the stack; its data stays (WIPE=1 removes it)
	@scripts/down

logs: ## what the stack says, until Ctrl-C (SERVICE=engine)
	@scripts/logs $(SERVICE)

verify: $(if $(filter-out compose,$(MEANT)),$(READY)) ## prove the result tables of the running stack exact
	@scripts/verify

chaos: $(if $(or $(MEANT),$(DEMO)),$(READY)) ## break the stack, prove it (FAULT= SEED= RUNS= HOLD= DEMO=)
	@scripts/chaos

soak: $(READY) ## random faults at load, proven after each (MINUTES=30 SEED=)
	@MINUTES=$(or $(MINUTES),30) scripts/chaos --up

demo: $(READY) ## run, kill -9, recover, verify; no Docker (STACK= BACKEND=)
	@scripts/demo

# Most of its time a test of servers waits for them, so two processes share the files, in their order: each
# has servers of its own, 4 GB in all.
test: $(READY) ## every test but those of the containers
	@$(VENV)/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder $(if $(filter check,$(MAKECMDGOALS)),$(SHAPE:%=--ignore=%))

test-compose: $(READY) ## the tests of the stack in containers (needs Docker)
	@$(VENV)/bin/pytest tests/compose -m compose $(if $(SELECT),-k "$(SELECT)")

test-spark: $(READY) ## the operator tests on a real Spark cluster (SELECT=)
	@$(VENV)/bin/pytest tests/engine -m spark $(if $(SELECT),-k "$(SELECT)")

test-drills: $(READY) ## every fault on plain processes, each with its panels
	@$(VENV)/bin/pytest tests/grafana -m "drills or servers"

check: $(READY) ## format, lint, types, architecture
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/pytest --quiet $(SHAPE)

fmt: $(READY) ## format the code
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

kill-loop: $(READY) ## kill -9 in every phase, in pieces, verify (STACK= KILLS=)
	@$(VENV)/bin/python -m tools.killloop

parity: $(READY) ## small programs on PySpark's own DStreams and here (N= SEED=)
	@$(VENV)/bin/python -m tools.parity --programs $(or $(N),100) --seed $(or $(SEED),7)

bench: $(READY) ## the engine beside a hand-written loop in one run
	@$(VENV)/bin/python -m tools.bench

screenshots: $(READY) ## the streaming page's pictures, from a real run
	@$(VENV)/bin/pytest tests/browser --screenshots docs/images

clean: ## remove the virtual environment and all data of stacks
	@WIPE=1 scripts/down
	rm -rf $(VENV) .stack .demo .bench .killloop
