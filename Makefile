# On a bare machine with Python 3.11, 3.12 or 3.13: `make demo` and `make test`. `make quick` runs the
# tests that start no Python, train and convert nothing; `make coverage` measures all; `make fuzz`
# gives broken files to every reader, for a minute each or `SECONDS`.
PYTHON ?= python3
VENV ?= .venv
SECONDS ?= 60
TESTS = -n 2 --dist loadfile

.PHONY: demo test quick fuzz coverage lint docs

demo: $(VENV)/installed
	$(VENV)/bin/python tools/demo.py --output_dir=demo

test: $(VENV)/installed
	$(VENV)/bin/python -m pytest $(TESTS)

quick: $(VENV)/installed
	$(VENV)/bin/python -m pytest $(TESTS) -m "not slow"

fuzz: $(VENV)/installed
	FUZZ_SECONDS=$(SECONDS) $(VENV)/bin/python -m pytest -n 2 --dist load tests/fuzz

coverage: $(VENV)/installed
	$(VENV)/bin/coverage erase
	$(VENV)/bin/coverage run -m pytest $(TESTS)
	$(VENV)/bin/coverage combine --quiet
	$(VENV)/bin/coverage report --skip-covered --sort=miss

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python
	$(VENV)/bin/lint-imports

docs: $(VENV)/installed
	$(VENV)/bin/pip install --quiet --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable ".[test]"
	touch $@
