# `make help` lists the targets.
# Every target first brings .venv up to date; PYTHON names the interpreter it is made from.

PYTHON ?= python3
PRESET ?= quick
ENCODER ?= embedded
DEVICE ?= cpu
JOBS ?= 2
# cpu: PyTorch without CUDA where an index has it, 0.2 GB instead of 6; cuda: PyPI's
TORCH ?= $(if $(shell command -v nvidia-smi),cuda,cpu)
CPU_WHEELS ?= https://download.pytorch.org/whl/cpu
BIN := .venv/bin
# both from one index, whatever pip.conf adds: builds that do not belong together fail on import
CPU_TORCH = PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL= $(BIN)/python -m pip install --quiet --retries 0 --timeout 10 \
  --index-url $(CPU_WHEELS) torch torchvision
# keep freed memory: convolutions on the CPU run in a third of the time
FAST := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647

# nbval says whether they run; what they show is compared by tests/paper/test_outputs.py
NBVAL = FUSIONLIB_DATA=synthetic TQDM_DISABLE=1 PYTHONHASHSEED=0 $(FAST) $(BIN)/python -m pytest \
  --nbval-lax --nbval-current-env --nbval-cell-timeout 36000 -p no:cacheprovider --timeout 0
TEACHING := 00_data 01_network 02_cii 03_cff

.PHONY: help paper test test-quick test-slow test-browser test-gpu notebooks outputs lock bench lab lint verify clean

paper: .venv/current  ## environment, all notebooks (python -m paper); results in runs/PRESET/
	$(BIN)/python -m paper --preset $(PRESET) --encoder '$(ENCODER)' --device $(DEVICE)
	@echo 'everything is in runs/$(PRESET)/; the committed figures/ and tables/ are as they were'

# one thread a process: two that wait for each other spin
TESTS := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(FAST) $(BIN)/python -m pytest \
  -n $(JOBS) --dist worksteal

# FUSIONLIB_DATA and FUSIONLIB_WEIGHTS are passed on
test: .venv/current  ## the tests; one runs all notebooks
	$(TESTS) -m "not slow and not browser"

test-quick: .venv/current  ## the tests without those that train or run notebooks
	$(TESTS) -m "not slow and not browser and not long"

test-slow: .venv/current  ## tests that take minutes
	$(FAST) $(BIN)/python -m pytest -m slow

# needs chromium, or skips
test-browser: .venv/current  ## JupyterLab and the report in a headless Chromium
	$(FAST) $(BIN)/python -m pytest -m browser

test-gpu: .venv/current  ## the tests that need a CUDA device
	$(FAST) $(BIN)/python -m pytest -m gpu

notebooks: .venv/current  ## nbval over 00 to 03
	$(NBVAL) $(TEACHING:%=notebooks/%.ipynb)

outputs: .venv/current  ## renew the committed outputs of 00 to 03
	$(BIN)/python -m paper --data-root synthetic --only $(TEACHING)
	$(BIN)/python -m paper.outputs runs/quick $(TEACHING)

# what .venv has; of PyTorch the files on PyPI
lock: .venv/current  ## renew requirements.lock
	$(BIN)/python -m pip install --quiet uv
	grep '^#' requirements.lock > requirements.tmp
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' | $(BIN)/uv pip compile --quiet \
	  --universal --python-version 3.11.5 --all-extras --generate-hashes --no-annotate --no-header \
	  --constraint /dev/stdin pyproject.toml >> requirements.tmp
	mv requirements.tmp requirements.lock

# on a machine that does nothing else
bench: .venv/current  ## renew benchmarks/, on an idle machine
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/inference.py --docs
	$(BIN)/python benchmarks/training.py

verify: .venv/current  ## compute the committed tables again, compare all with its records
	$(BIN)/python -m paper --verify

lint: .venv/current  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# copies, because JupyterLab saves what one does in them
lab: .venv/current  ## JupyterLab over copies of the notebooks, in lab/
	mkdir -p lab
	for one in notebooks/*.ipynb; do test -e lab/$$(basename $$one) || cp $$one lab/; done
	$(FAST) $(BIN)/jupyter lab --notebook-dir . --LabApp.default_url=/lab/tree/lab

clean:  ## remove everything generated
	rm -rf runs build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'with PRESET=quick|cpu|paper ENCODER=… JOBS=2 DEVICE=cpu|cuda TORCH=cpu|cuda FUSIONLIB_DATA=… FUSIONLIB_WEIGHTS=…'

# Made anew only when the dependencies change; the stamp is written last.
.venv/current: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	test '$(TORCH)' != cpu || $(CPU_TORCH) || echo '$(CPU_WHEELS) cannot be reached: PyPI has the wheels instead.'
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@$(BIN)/python -c 'import torch as t, torchvision; print("PyTorch", t.__version__, "with" if t.version.cuda else "without", "CUDA")'
	touch $@
