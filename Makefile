# One verb per habit. Needs python3 (3.11 to 3.13) and pip on the PATH, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Where Ray takes the whole process along, its last words on stderr must not be lost with it.
LOUD := --capture=sys
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help venv demo test fast slow lint format docs bench clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.made  ## an empty virtual environment in .venv

demo: $(VENV)/.installed  ## install, and run the quickstart: a report within a minute
	$(BIN)/fedray launch

test: fast  ## install, and run the tests but for slow ones (what CI runs)
	$(BIN)/python -m pytest -m "ray and not slow" $(LOUD)

fast: $(VENV)/.installed-dev  ## the tests that start no Ray, on all cores
	$(BIN)/python -m pytest -m "not slow and not ray" -n auto

slow: $(VENV)/.installed-dev  ## all other tests: what confirms, and what kills for minutes
	$(BIN)/python -m pytest -m slow $(LOUD)

lint: $(VENV)/.installed-dev  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed  ## write the generated pages of docs/ anew
	$(BIN)/fedray config reference > docs/.configuration.md
	mv docs/.configuration.md docs/configuration.md
	$(BIN)/fedray algorithms reference > docs/.algorithms.md
	mv docs/.algorithms.md docs/algorithms.md

bench: $(VENV)/.installed  ## fedray beside bare loops; takes minutes
	$(BIN)/python benchmarks/timeline.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/decomposition.py
	$(BIN)/python benchmarks/diagnosis.py
	$(BIN)/python benchmarks/sweep.py
	$(BIN)/python benchmarks/robust.py --out runs/robust.html
	$(BIN)/python benchmarks/compression.py
	$(BIN)/python benchmarks/server.py
	$(BIN)/python benchmarks/algorithms.py

clean:  ## remove the environment, caches and builds; never runs/
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Some Pythons come without ensurepip (Debian's without python3-venv): then pip installs pip.
$(VENV)/.made:
	$(PYTHON) -m venv --clear $(VENV) || { \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	  $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	touch $@

# Editable: the code that runs is the code that is here.
$(VENV)/.installed: pyproject.toml | $(VENV)/.made
	$(PIP) -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.made
	$(PIP) -e '.[dev]'
	touch $@ $(VENV)/.installed
