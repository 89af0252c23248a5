# Each target makes its own virtual environment in .venv; `make PYTHON=python3.12 test` chooses the
# interpreter. `make` alone lists the targets.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
PACKAGES := manage.py project automations tracking tests

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast pictures lint bench chaos audit format clean

help:
	@echo "make demo    serve a made-up workspace with simulated traffic, on an embedded MongoDB"
	@echo "make test    run the tests, on an embedded MongoDB"
	@echo "make test-fast  run those that need no MongoDB: under a minute"
	@echo "make pictures open the pages in a browser and write docs/pictures again"
	@echo "make lint    ruff, mypy, import-linter, Django's checks, the API's schema"
	@echo "make bench   measure speed and exactness beside the system we replace (20 minutes;"
	@echo "             BENCH_QUICK=1: 3, BENCH_FULL=1: with 5 million runs, BENCH_ROWS=100,list,"
	@echo "             BENCH_BEFORE=<commit>: beside an older commit)"
	@echo "make chaos   break things under load and count again: every scenario, or one by"
	@echo "             CHAOS_ARGS='counting --seed 2 --kills 20 --events 5000' (--help lists them)"
	@echo "make audit   ask PyPI for advisories on what production needs (needs the internet)"
	@echo "make format  write the code as ruff wants it"
	@echo "make clean   remove the virtual environment and the caches, not the data in .data"

demo: $(INSTALLED)
	$(BIN)/python manage.py demo $(DEMO_ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

test-fast: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 tests/unit $(PYTEST_ARGS)

pictures: $(INSTALLED)
	WRITE_PICTURES=1 $(BIN)/python -m pytest -n 0 tests/browser/test_pictures.py

lint: $(INSTALLED)
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python manage.py check
	$(BIN)/python manage.py spectacular --validate --fail-on-warn --file /dev/null

bench: $(INSTALLED)
	$(BIN)/python -m tests.benchmarks

chaos: $(INSTALLED)
	$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

# Not a part of CI: a mirror of PyPI seldom has the advisories, and new ones are no fault of a commit.
audit: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip-audit~=2.10'
	$(BIN)/pip-audit --strict --requirement requirements.txt

format: $(INSTALLED)
	$(BIN)/ruff check --fix $(PACKAGES)
	$(BIN)/ruff format $(PACKAGES)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(INSTALLED): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	  "Python 3.11 or newer is needed: make PYTHON=python3.12 " + "$(MAKECMDGOALS)")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
