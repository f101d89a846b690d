# Every target that a person calls carries a "## comment": `make` alone lists them.
.DEFAULT_GOAL := help
PY := .venv/bin/python
BIN := $(CURDIR)/.venv/bin

.PHONY: help
help: ## show this list
	@grep -hE '^[a-zA-Z0-9_-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

# --- running the suite on this machine (deploy/local/README.md) ---

.PHONY: setup setup-dev run up down status logs
setup: ## install what the suite needs to run, into this checkout only
	@deploy/local/setup.sh local

setup-dev: ## install what checks and tests need as well
	@deploy/local/setup.sh dev

run: setup ## start the whole suite, serve until Ctrl-C (CONTENTLAB_PORT_BASE=1000 for other ports)
	@exec $(PY) -m deploy.local run

up: setup ## the same in the background
	@exec $(PY) -m deploy.local up

down: setup ## stop it
	@exec $(PY) -m deploy.local down

status: setup ## show every process; fails unless all are healthy
	@exec $(PY) -m deploy.local status

logs: setup ## show the last log lines (NAME=image for one process, FOLLOW=1 to go on)
	@exec $(PY) -m deploy.local logs $(NAME) $(if $(FOLLOW),--follow)

# --- checks, tests and generated code ---

.PHONY: gen gen-check proto-lint proto-baseline format lint types check test test-long bench chaos bench-gallery lock clean

gen: setup-dev ## generate the stubs and the descriptor set from the contract
	PATH="$(BIN):$$PATH" $(PY) protos/generate.py

gen-check: setup-dev ## fail if the committed stubs are not what the contract generates
	PATH="$(BIN):$$PATH" $(PY) protos/generate.py --check

proto-lint: setup-dev ## format, lint and breaking-change checks of the contract
	cd protos && $(BIN)/buf format --diff --exit-code .
	$(BIN)/buf lint protos/gen/contentlab.binpb --path contentlab --config protos/buf.yaml
	$(BIN)/buf breaking protos/gen/contentlab.binpb --against protos/baseline.binpb --path contentlab --config protos/buf.yaml

proto-baseline: setup-dev ## make the present contract the one that later ones must not break
	PATH="$(BIN):$$PATH" $(PY) protos/generate.py --baseline

format: setup-dev ## format Python and the contract
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .
	cd protos && $(BIN)/buf format -w .

lint: setup-dev ## lint and check the format
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: setup-dev ## check types, strictly
	$(BIN)/mypy .

check: lint types gen-check proto-lint ## format, lint, types, import rules, generated code: fast
	$(BIN)/pytest -q tests/api tests/test_architecture.py

test: setup-dev ## run every test, on real Envoy, Postgres, Azurite and emulator
	$(BIN)/pytest -n 2 --dist loadfile

test-long: setup-dev ## the same with the campaigns at full size
	CONTENTLAB_CAMPAIGN_SECONDS=120 $(BIN)/pytest

bench: setup-dev ## benchmarks with ratios: large transfers against the storage SDK alone
	$(PY) -m tests.benchmarks.transfers

chaos: setup-dev ## the fault campaign with its ledger verdict
	CONTENTLAB_CAMPAIGN_SECONDS=60 $(BIN)/pytest -s tests/faults

bench-gallery: setup-dev ## measure the gallery with 1,000,000 assets (ROWS=10000 for fewer, BENCH_HOME=dir keeps them)
	$(PY) -m tests.benchmarks.gallery --rows $(or $(ROWS),1000000) $(if $(BENCH_HOME),--home $(BENCH_HOME))

lock: setup-dev ## compile requirements/*.in into hash-locked files
	for name in bootstrap runtime local node dev; do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
			requirements/$$name.in --output-file requirements/$$name.txt || exit 1; \
	done

clean: ## remove caches; environments and data stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
