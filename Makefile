# make paper · make test · make lab · make notebooks · make outputs · make clean
# Every target first brings .venv up to date; PYTHON names the interpreter it is made from.

PYTHON ?= python3
PRESET ?= quick
ENCODER ?= embedded
DEVICE ?= cpu
BIN := .venv/bin
# keep freed memory: convolutions on the CPU run in a third of the time
FAST := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647

# synthetic scenes, so that committed outputs can be compared
NBVAL = FUSIONLIB_DATA= TQDM_DISABLE=1 PYTHONHASHSEED=0 $(FAST) $(BIN)/python -m pytest \
  --nbval-current-env --nbval-sanitize-with tests/nbval.cfg --nbval-cell-timeout 300 \
  -p no:cacheprovider --timeout 900
TEACHING := notebooks/01_network.ipynb notebooks/02_cii.ipynb notebooks/03_cff.ipynb

.PHONY: paper test test-slow test-browser notebooks outputs bench lab lint clean

paper: .venv/current
	$(BIN)/python -m fusionlib paper --preset $(PRESET) --encoder '$(ENCODER)' --device $(DEVICE)

# FUSIONLIB_DATA and FUSIONLIB_WEIGHTS are passed on
test: .venv/current
	$(FAST) $(BIN)/python -m pytest -m "not slow and not browser"
	$(MAKE) notebooks

test-slow: .venv/current
	$(FAST) $(BIN)/python -m pytest -m slow

# needs chromium, or skips
test-browser: .venv/current
	$(FAST) $(BIN)/python -m pytest -m browser

# The teaching notebooks are committed with their outputs, which must come out again; the others
# are committed without.
notebooks: .venv/current
	$(NBVAL) --nbval $(TEACHING)
	$(NBVAL) --nbval-lax $(filter-out $(TEACHING),$(wildcard notebooks/*.ipynb))

# renews the committed outputs of the teaching notebooks
outputs: .venv/current
	FUSIONLIB_DATA= $(FAST) $(BIN)/python -m fusionlib.outputs

# on a machine that does nothing else
bench: .venv/current
	$(BIN)/python benchmarks/metrics.py

lint: .venv/current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lab: .venv/current
	$(FAST) $(BIN)/jupyter lab --notebook-dir .

clean:
	rm -rf runs build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# Made anew only when the dependencies change; the stamp is written last.
.venv/current: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@
