# make demo    build a virtual environment, install, and tell what it costs to stay current, on the embedded sample (minutes)
# make test    build one with the development tools and run the whole check, as CI does
# make slow    the tests that take minutes: long loops of kills, several processes
# make docs    build the site of documents and docstrings into site/ (a minute); open site/index.html
# make check   the check alone, in .venv where there is one, otherwise in the environment that is active
# make suite   run the suite that judges policies, resumable, with all cores (hours); DATA is the folder of the data sets
# make clean   remove what these built; runs/ stays, because it holds what was trained

PYTHON ?= python3
VENV := .venv
DATA ?= data
BIN := $(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/,)
INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check slow docs suite clean

demo: $(VENV)/installed-demo
	$(VENV)/bin/lure compare

test: $(VENV)/installed-test
	$(MAKE) check

check:
	$(BIN)ruff format --check .
	$(BIN)ruff check .
	$(BIN)mypy
	OMP_NUM_THREADS=1 $(BIN)pytest --numprocesses auto --dist worksteal

slow:
	$(BIN)pytest -m slow

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[data,paper,dev]'
	touch $@ $(VENV)/installed-demo

$(VENV)/installed-docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[docs]'
	touch $@

suite:
	status=0; for part in choose judge ablate page; do \
	  PYTHONPATH=src $(BIN)python benchmarks/suite.py $$part --data $(DATA) || status=$$?; done; exit $$status

clean:
	rm -rf $(VENV) build site src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
