# Two commands for a newcomer: `make demo` and `make test`. Needs python3 (3.11 or later), python3-venv and make.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
DOCS := .tools/docs
CLIENT_TESTS := tests/live tests/conformance --ignore tests/live/reliability
PYTEST := $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test soak check lint types types-trio bench bench-full bench-check reliability faults-vs-peers \
	conversion-report docs test-browser clean help

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 22

demo: $(INSTALLED)  ## two simulated servers, eight pictures, live bars
	@$(BIN)/async-comfy demo --output demo-output

test: $(READY)  ## all tests; those of the client once more in asyncio's debug mode and under uvloop
	$(PYTEST)
	ASYNC_COMFY_TEST_LOOP=debug $(PYTEST) -q $(CLIENT_TESTS)
	ASYNC_COMFY_TEST_LOOP=uvloop $(PYTEST) -q $(CLIENT_TESTS)

check: lint types  ## what every commit must pass, besides the tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

types-trio:  ## the public API type-checks for a user who has trio-typing installed
	PYTHON="$(PYTHON)" tests/typing/check_with_trio_typing.sh

soak: $(READY)  ## ten thousand seeds and jobs, on every loop
	ASYNC_COMFY_SEEDS=10000 ASYNC_COMFY_FLEET=10000x20 $(BIN)/pytest -q tests/live/reliability
	ASYNC_COMFY_TEST_EFFORT=soak $(BIN)/pytest -q tests/protocol
	ASYNC_COMFY_TEST_LOOP=debug $(BIN)/pytest -q tests/live
	ASYNC_COMFY_TEST_LOOP=uvloop $(BIN)/pytest -q tests/live

bench: $(READY)  ## CPU per event and per prompt, in a minute
	$(BIN)/python -m benchmarks

bench-full: $(READY)  ## all cases, peers too; writes benchmarks/results/ and docs/benchmarks.md
	$(BIN)/python -m benchmarks --full

bench-check: $(READY)  ## fails where a ratio is more than 10 % worse than the committed one
	$(BIN)/python -m benchmarks --check

reliability: $(READY)  ## every fault, counted; writes docs/reliability.md
	$(BIN)/python -m benchmarks.reliability

faults-vs-peers: $(READY)  ## who hangs or lies under four faults: this package and three others
	$(BIN)/python -m benchmarks.faults_vs_peers --write docs/reliability.md

conversion-report: $(READY)  ## editor format to API format: score and times over the official templates
	$(BIN)/python -m benchmarks.conversion

docs: $(READY) $(DOCS)/.ready  ## the documentation site, into site/: strict, tables current, links checked
	$(BIN)/python docs/generate.py --check
	$(DOCS)/bin/zensical build --clean --strict
	$(BIN)/python docs/check_links.py site

test-browser: $(READY)  ## the web example in Debian's chromium (apt-get install chromium)
	$(BIN)/pytest tests/examples/test_browser.py

$(DOCS)/.ready: requirements-docs.txt
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip --disable-pip-version-check --quiet install --requirement requirements-docs.txt
	@touch $@

$(INSTALLED): pyproject.toml $(CONSTRAINTS)  # the package alone
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "async-comfy needs Python 3.11 or later; PYTHON=... chooses another one."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "Cannot make $(VENV): install python3-venv."; exit 1; }
	@echo "Setting up $(VENV) ..."
	@$(PIP) install --constraint $(CONSTRAINTS) --editable '.[cli,testing]'
	@touch $@

$(READY): $(INSTALLED) requirements-dev.txt  # and what its tests and checks need
	@echo "Adding what tests and checks need ..."
	@$(PIP) install --constraint $(CONSTRAINTS) --requirement requirements-dev.txt
	@touch $@

clean:  ## remove what the above made
	rm -rf $(VENV) $(DOCS) .cache .mypy_cache .ruff_cache .hypothesis demo-output dist site
