# Every target that a person calls carries a "## comment": `make` alone lists them.
.DEFAULT_GOAL := help
PY := .venv/bin/python

.PHONY: help
help: ## show this list
	@grep -hE '^[a-zA-Z0-9_-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

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
