PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# uv, where there is one, installs in a sixth of pip's processor time; what is never imported need not be compiled
INSTALL := $(if $(shell command -v uv),VIRTUAL_ENV=$(VENV) uv pip install,$(BIN)/pip install --no-compile) --quiet --constraint constraints.txt
# folder of the real sets, which do not come with the project
DATA ?= ../shared/data

.PHONY: fit board test tests types lint test-slow test-gpu test-minimum test-browser real-data docs clean

fit: $(VENV)/installed
	$(BIN)/python -m hierlit fit --config configs/quickstart.yaml

board: $(VENV)/installed
	$(BIN)/tensorboard --logdir lightning_logs

# the checks run one after another beside the tests
test: $(VENV)/installed-dev
	$(MAKE) --jobs 2 tests lint types docs

# a thread a worker of pytest: more would wait for one another
tests: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

types: $(VENV)/installed-dev
	$(BIN)/mypy

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

test-slow: $(VENV)/installed-dev
	$(BIN)/pytest -m slow

# skipped, with the reason, where there is no GPU
test-gpu: $(VENV)/installed-dev
	$(BIN)/pytest -m gpu -rs

# needs uv; the tests that meet other packages most
test-minimum:
	uv venv --quiet --clear --python $(PYTHON) .venv-minimum
	VIRTUAL_ENV=.venv-minimum uv pip install --quiet --resolution lowest-direct --editable '.[test]'
	.venv-minimum/bin/python -m pytest tests/cli tests/training tests/data tests/discovery tests/estimator tests/files tests/metrics

test-browser: $(VENV)/installed-dev
	$(BIN)/pytest -m browser

real-data: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks tables --tables.data $(DATA) --tables.methods '[tables]' --tables.seeds 5 \
		--tables.sets '[cellcycle_FUN,derisi_FUN,Enron_corr,ImCLEF07D]'

# the variable silences a notice of mkdocs-material about another project
docs: $(VENV)/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) torch --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(INSTALL) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV)
