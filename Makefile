# Two commands on a bare machine with Python 3.11, 3.12 or 3.13: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv

.PHONY: demo test lint docs

demo: $(VENV)/installed
	$(VENV)/bin/python tools/demo.py --output_dir=demo

test: $(VENV)/installed
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

docs: $(VENV)/installed
	$(VENV)/bin/pip install --quiet --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable ".[test]"
	touch $@
