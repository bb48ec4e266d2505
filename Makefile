# Every target sets up its own virtual environment from a bare checkout.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Resolves, downloads and unpacks three to five times as fast as pip, whose settings it is given.
INSTALL := $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --editable
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
# Where a shell forbids it to write bytecode, every run would compile every module again: two seconds.
unexport PYTHONDONTWRITEBYTECODE
ARGS ?=
WORKERS ?= 2

.PHONY: unlearning bias-mitigation lifelong-editing transfer test test-slow coverage lint check \
  docs docs-serve wheel benchmark clean

unlearning: $(VENV)/.installed  ## run the main job on the embedded default (no download)
	$(BIN)/python -m experiments.unlearning $(ARGS)

bias-mitigation: $(VENV)/.installed  ## the same for identity bias, on embedded comments
	$(BIN)/python -m experiments.bias_mitigation $(ARGS)

lifelong-editing: $(VENV)/.installed  ## facts edited into a language model, on an embedded world
	$(BIN)/python -m experiments.lifelong_editing $(ARGS)

transfer: $(VENV)/.installed  ## policies that edit networks they never saw, on the embedded default
	$(BIN)/python -m experiments.transfer $(ARGS)

test: $(VENV)/.installed-dev  ## pass the tests in WORKERS processes
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-slow: $(VENV)/.installed-dev  ## the slow tests as well, in WORKERS processes
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "slow or not slow" $(ARGS)

coverage: $(VENV)/.installed-dev  ## the tests, and which lines they leave out
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov=modeledit_jax --cov-report=term --cov-fail-under=90 $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs  ## the site, into site/; a broken link or reference is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet $(ARGS)

docs-serve: $(VENV)/.installed-docs  ## the site at http://localhost:8000, built again at changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve $(ARGS)

check: lint test docs  ## what CI runs

wheel: $(VENV)/.installed-dev  ## source archive and wheel, into dist/
	$(BIN)/python -m build $(ARGS)

benchmark: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.throughput $(ARGS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile uv

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(INSTALL) .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(INSTALL) ".[dev]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/bin/python
	$(INSTALL) ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
