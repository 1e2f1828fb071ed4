# `make help` lists the targets. Needs git, make and Python 3.11 or newer; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
CLEAN_BUILD := rm -rf _build && \
  echo y | $(BIN)/jcache notebook -p _build/.jupyter_cache add notebooks/*.ipynb >/dev/null && \
  $(BIN)/jcache project -p _build/.jupyter_cache execute -e local-parallel -t 300 >/dev/null && \
  NOTEBOOKS_ARE_FRESH=1 $(BIN)/jupyter-book build . -W -n --keep-going

# kernels start without a user's own settings, and without a notice about their local connection
export IPYTHONDIR := $(CURDIR)/.venv/ipython

.DEFAULT_GOAL := help
.PHONY: help book test verify lab serve results calibrate lock clean

help: ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -e 's/:.*## /\t/' | expand -t 10

.venv/stamp: requirements.txt pyproject.toml
	@command -v git >/dev/null || { echo "missing: git"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "missing: Python 3.11 or newer (set PYTHON=/path/to/python3)"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	@if command -v uv >/dev/null; then \
	  uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.txt && \
	  uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@mkdir -p .venv/ipython/profile_default
	@echo "c.IPKernelApp.log_level = 40" > .venv/ipython/profile_default/ipython_kernel_config.py
	@touch $@

book: .venv/stamp ## execute every notebook and render the book
	$(CLEAN_BUILD)
	@echo "The book is ready: open _build/html/index.html"

test: .venv/stamp ## lint, types, unit tests, doctests, strict nbval, clean build, results
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q -n 2 -m "not slow" --ignore tests/benchmarks
	$(BIN)/pytest -q -n 2 --dist loadscope -c tests/nbval.ini --rootdir . --nbval notebooks
	$(CLEAN_BUILD)
	$(BIN)/python tests/compare_results.py

verify: .venv/stamp ## everything slow: pages in a browser, tampering, benchmarks, lowest versions, wheel
	@test -f _build/html/index.html || $(MAKE) book
	$(BIN)/pytest -q -m slow
	$(BIN)/python tests/site/check_pages.py
	$(BIN)/pytest -q -s --benchmark-only --benchmark-columns=median,ops tests/benchmarks
	$(BIN)/python tests/tamper.py
	$(BIN)/python tests/installations.py

lab: .venv/stamp ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

serve: book ## serve the built book at http://127.0.0.1:8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

results: .venv/stamp ## re-run the notebooks in order and refresh stored outputs, results and front pages
	$(BIN)/python tests/refresh.py

calibrate: .venv/stamp ## refit the inference model: constants printed, intervals and left-out errors written
	$(BIN)/python tests/calibrate.py

lock: ## resolve pyproject.toml anew into requirements.txt, with hashes
	uv pip compile pyproject.toml --all-extras --generate-hashes --universal --python-version 3.11 --no-header --upgrade -q -o requirements.txt

clean: ## remove what was built, and the environment
	rm -rf _build .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks
