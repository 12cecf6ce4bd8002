# Needs Python 3.11, 3.12 or 3.13, and make. Every target sets up .venv first; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
# worksteal: each process starts with one half, in order, so that a module's fixtures are rarely made twice.
PYTEST_ARGS ?= -n 2 --dist worksteal
# torch 2.11.0, the floor, comes with several GB of CUDA from the registry; any version from 2.11 on may be tested:
#     make oldest OLDEST_TORCH=2.13.0
OLDEST_TORCH ?= 2.11.0
OLDEST_VENV ?= .venv-oldest
# Of each model that the notebooks train; the notebooks name more useful numbers.
NOTEBOOK_STEPS ?= 30
# Recordings for demo:speech, with train/ and val/, such as the Free Spoken Digit Dataset; without, it is left as it is.
SPEECH ?=
# A package of benchmarks/ with its options.
BENCH ?= train_step --parts speed --workloads text-2048
# Of `make gpu`; WHEELS may name a folder of wheels, such as those of peers.
GPU_MINUTES ?= 9
GPU_OUT ?= gpu
# For each target of `make fuzz`.
FUZZ_SECONDS ?= 60

BIN := $(VENV)/bin
READY := $(VENV)/.ready
NEW_VENV = "$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else \
	"megabyte-mm needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is %d.%d: name another, as in make PYTHON=python3.12" % v)' \
	&& "$(PYTHON)" -m venv --clear

.DEFAULT_GOAL := help
.PHONY: help demo models test check format notebooks docs servedocs bench gpu fuzz oldest clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

$(READY): pyproject.toml constraints.txt
	@$(NEW_VENV) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)  ## train small models on made-up media and continue it
	$(BIN)/python demo/run.py

models: $(READY)  ## train the models that come with the package again; SPEECH=DIR also demo:speech
	$(BIN)/python demo_models/make.py $(if $(SPEECH),--speech $(SPEECH))

test: $(READY)  ## run all tests, in two processes; PYTEST_ARGS="-n 8" takes more
	$(BIN)/python -m pytest -q $(PYTEST_ARGS)

check: $(READY)  ## format, lint, types and the direction of the imports, as pre-commit does
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

format: $(READY)  ## format the code and fix what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/jupytext --quiet --sync notebooks/*.py

notebooks: $(READY)  ## run the notebooks, shortened, into docs/notebooks/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,notebooks]'
	MEGABYTE_MM_NOTEBOOK_STEPS=$(NOTEBOOK_STEPS) $(BIN)/python -m nbconvert --to notebook --execute \
		--ExecutePreprocessor.timeout=600 --output-dir docs/notebooks notebooks/*.ipynb

docs/notebooks:
	$(MAKE) notebooks

docs: $(READY) docs/notebooks  ## build the docs into site/, warnings as errors; open site/index.html
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@! grep -rnoE '(src|<link[^>]* href)="https?://[^"]*' site --include='*.html' \
		|| { echo "these pages load files from other servers"; exit 1; }

servedocs: docs  ## show the docs at http://127.0.0.1:8000 and rebuild them when they change
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

bench: $(READY)  ## time training steps beside other implementations; BENCH=decode times generation
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python -m benchmarks.$(BENCH)

gpu:  ## measure and test on this machine's GPU with its own python3, in GPU_MINUTES=9, into GPU_OUT=gpu
	$(PYTHON) -m benchmarks.gpu --minutes $(GPU_MINUTES) --out $(GPU_OUT) $(if $(WHEELS),--wheels $(WHEELS))

fuzz: $(READY)  ## feed broken files to every reader and loader, FUZZ_SECONDS=60 each (Linux)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,fuzz]'
	$(BIN)/python -m fuzz.run --seconds $(FUZZ_SECONDS)

oldest:  ## run all tests with the oldest allowed versions, in a virtual environment of their own
	@$(NEW_VENV) $(OLDEST_VENV)
	echo 'torch==$(OLDEST_TORCH)' > $(OLDEST_VENV)/torch.txt
	$(OLDEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		-c constraints-oldest.txt -c $(OLDEST_VENV)/torch.txt -e '.[test]'
	$(OLDEST_VENV)/bin/python -m pytest -q -W default $(PYTEST_ARGS)

clean:  ## remove the virtual environments, caches and builds
	rm -rf $(VENV) $(OLDEST_VENV) .venv-ci build dist site docs/notebooks .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
