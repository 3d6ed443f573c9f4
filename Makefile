# Every target sets up what it needs; what is installed already is not installed again.
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
# One more than there are cores: many tests wait for a clock.
WORKERS := $(shell expr $$(nproc) + 1)
INSTALLED := .venv/.installed
SCANNER := .cache/scanner
# The tests start hundreds of processes: none has to compile us anew, also where Python writes no bytecode.
BYTECODE := $(BIN)/python -m compileall -q stagegate workflows training evaluation

.PHONY: demo test test-all lint scan format render bench lock clean

demo: $(INSTALLED)
	$(BIN)/stagegate demo

test: $(INSTALLED)
	@$(BYTECODE)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not slow"

test-all: $(INSTALLED)
	@$(BYTECODE)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

lint: $(INSTALLED) scan
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m workflows.render --check

# The security rules of the templates. What does not hold for us is left out where it is, with the reason.
scan: $(SCANNER)/.installed
	$(SCANNER)/bin/checkov --framework cloudformation --directory deploy --compact --quiet --skip-download

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

render: $(INSTALLED)
	$(BIN)/python -m workflows.render

bench: $(INSTALLED)
	@for benchmark in benchmarks/*.py; do echo "== $$benchmark"; $(BIN)/python $$benchmark || exit 1; done

# New versions of everything that setup.cfg allows.
lock: $(INSTALLED)
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --no-annotate \
		--custom-compile-command 'make lock' setup.cfg --output-file requirements.lock
	echo checkov | $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate \
		--custom-compile-command 'make lock' - --output-file scanner.lock

# torch and torchvision are large: uv installs them many times faster than pip, and compiles the
# bytecode at once, so that the first import is not the slow one.
$(INSTALLED): requirements.lock setup.cfg pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --requirement requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# The scanner pins what it needs, and so has an environment of its own.
$(SCANNER)/.installed: scanner.lock $(INSTALLED)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(SCANNER)
	$(BIN)/uv pip install --quiet --python $(SCANNER)/bin/python --compile-bytecode --requirement scanner.lock
	@touch $@

clean:
	rm -rf .venv .cache .stagegate build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
