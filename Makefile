# Every target sets up what it needs: CPython 3.11 or newer and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export OMP_NUM_THREADS ?= $(shell $(PYTHON) -c "import os; print(max(1, (os.cpu_count() or 2) // 2))")

.PHONY: demo test lint docs notebook paper bench clean

demo: $(READY)  ## train a small classifier on real digits and assess held-out ones, with a page about them
	$(BIN)/python examples/digits.py calotte-demo
	rm -f calotte-demo/campaign.sqlite* calotte-demo/run.json calotte-demo/assessments.jsonl
	$(BIN)/calotte assess calotte-demo/digits.onnx calotte-demo/digits.npz --eps 0.4 --index 0:40 --out calotte-demo
	$(BIN)/calotte report calotte-demo

test: export OMP_NUM_THREADS = 1
test: $(READY)  ## all tests, one process a core; failures are named as they happen, the slowest tests at the end
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)  ## the documentation site in build/site; a broken link fails
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

notebook: $(READY)  ## run docs/notebook.ipynb anew
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/jupyter execute --inplace docs/notebook.ipynb

paper: $(READY)  ## the paper's theorems checked, its figures drawn
	$(BIN)/calotte paper --out calotte-paper

bench: $(READY)  ## every figure of speed in the README
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "torch"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) calotte-demo calotte-paper build dist
