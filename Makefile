# Everturn's commands. They need make and Python 3.11 or newer; the first one fetches the rest.

UV ?= $(shell uv --version >/dev/null 2>&1 && echo uv || echo .tools/bin/uv)
EXTRA ?= --extra local
ARGS ?=
RUN = $(UV) run --locked $(EXTRA)

# The service is installed where these recipes start it, whatever environment is active outside.
export UV_PROJECT_ENVIRONMENT = .venv
unexport VIRTUAL_ENV
# Each process compiles everything anew where this is set; the tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run migrate test check bench torture format openapi lock clean uv install

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo 'ARGS="…" passes options on, as in: make test ARGS="-k stream"'

run: install ## install what is locked, migrate ./data and serve on 127.0.0.1:8000
	@exec .venv/bin/everturn serve $(ARGS)

migrate: install ## bring the database to the newest schema
	@exec .venv/bin/everturn migrate $(ARGS)

test: uv ## run the tests, on SQLite and on Postgres servers that they bring themselves
	$(RUN) pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

check: uv ## lint, types, floors and ceilings
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy service tests bench torture migrations
	$(RUN) lint-imports
	$(RUN) pytest -q tests/test_house.py

bench: uv ## measure against two bare floors on this machine
	$(RUN) python -m bench $(ARGS)

torture: uv ## kill, freeze and cut it under load, and reconcile what everybody saw
	$(RUN) python -m torture $(ARGS)

format: uv ## sort imports and format the code
	$(RUN) ruff check --fix-only --select I .
	$(RUN) ruff format .

openapi: uv ## write docs/openapi.json anew after a change of the API
	$(RUN) everturn openapi > docs/openapi.json.new && mv docs/openapi.json.new docs/openapi.json

lock: uv ## write uv.lock anew after a change of pyproject.toml
	$(UV) lock $(ARGS)

clean: ## remove what these commands installed and cached; ./data stays
	rm -rf .venv .tools dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find service tests bench torture migrations -name __pycache__ -type d -prune -exec rm -rf {} +

# Inexact: what the tests need stays installed. The model on this machine has wheels for the common platforms only.
install: uv
	@$(UV) sync --quiet --locked --inexact --no-dev $(EXTRA) || { \
	  echo 'The extra `local` (a model on this machine) cannot be installed here; going on without it.' >&2; \
	  echo 'Set OPENAI_API_KEY or another provider of docs/settings.md to have a model.' >&2; \
	  $(UV) sync --quiet --locked --inexact --no-dev; }

uv:
	@$(UV) --version >/dev/null 2>&1 || { \
	  if [ "$(UV)" != .tools/bin/uv ]; then echo 'UV="$(UV)" does not run.' >&2; exit 1; fi; \
	  for python in python3 python3.13 python3.12 python3.11 none; do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	  done; \
	  if [ "$$python" = none ]; then \
	    echo 'Everturn needs Python 3.11 or newer; none was found as python3, python3.13, python3.12 or python3.11.' >&2; \
	    exit 1; \
	  fi; \
	  echo "Installing uv into .tools/ with $$python …"; \
	  rm -rf .tools; \
	  { "$$python" -m venv .tools && .tools/bin/python -m pip install --quiet --disable-pip-version-check uv; } >/dev/null 2>&1 \
	    || { rm -rf .tools; "$$python" -m pip install --quiet --disable-pip-version-check --target .tools uv; } \
	    || { echo 'uv could not be installed with venv or pip: see above, or install it yourself (https://docs.astral.sh/uv/).' >&2; \
	         rm -rf .tools; exit 1; }; \
	}
