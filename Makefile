# On a fresh machine `make quickstart` and `make test` do everything; each makes .venv in the checkout when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := -e . $(foreach p,$(wildcard plugins/*),-e $(p))
TEST_TOOLS := pytest pytest-timeout pytest-xdist jsonschema hatchling
# Brings axe-core, which checks the report's accessibility in Chromium; the browser driver that it would pull in is not used.
LONE_TEST_TOOLS := axe-playwright-python
LINT_TOOLS := ruff mypy import-linter types-PyYAML types-jsonschema
export OMP_NUM_THREADS ?= 1
# Files of tests run side by side, one process each; what a file sets up is shared within it.
WORKERS ?= 2

.PHONY: quickstart test test-slow lint bench schemas clean

# torch first: without it, a range that admits a newer release would bring gigabytes of CUDA along.
$(VENV)/.run: pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt $(PACKAGES)
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/python -m pip install --quiet -c constraints.txt $(TEST_TOOLS) $(LINT_TOOLS)
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt $(LONE_TEST_TOOLS)
	touch $@

quickstart: $(VENV)/.run
	$(BIN)/leakaudit run recipes/quickstart.yaml --out quickstart-audit --fail-on never

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests $(wildcard plugins/*/tests)

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest tests $(wildcard plugins/*/tests) -m slow --timeout 3600

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src $(foreach p,$(wildcard plugins/*),$(p)/src)
	$(BIN)/lint-imports

# The core's ratios, then those of every package that has some (FSHA and SDAR iterations, targets per minute, images per minute).
# Other scripts there make the tables of VALIDATION.md: they take arguments, and longer.
BENCHMARKS := benchmarks/run.py $(wildcard plugins/*/benchmarks/run.py) plugins/leakaudit-gradients/benchmarks/matching.py
bench: $(VENV)/.run
	for script in $(BENCHMARKS); do echo "$$script"; $(BIN)/python $$script || exit 1; done

# The committed JSON Schemas: of the report, and of recipes as the core alone knows them.
schemas: $(VENV)/.run
	LEAKAUDIT_PLUGINS= $(BIN)/leakaudit schema > src/leakaudit/recipes/recipe.schema.json
	$(BIN)/python -c "from leakaudit.report.schema import schema_text; print(schema_text(), end='')" > src/leakaudit/report/report.schema.json

clean:
	rm -rf $(VENV) quickstart-audit
