# The commands of the house. Each makes its own .venv, once, from constraints.txt; nothing need be activated.
#
#   make demo         meta-train and meta-test on real images, about 4 minutes on 2 cores; writes demo-report.html
#   make test         linter, types, import directions, tests: at most 12 minutes on 2 cores
#   make test-all     the same, then the deep checks; stopped, it goes on where it was
#   make test-peers   losses and meta-gradients beside higher, torchopt, learn2learn, easyfsl, torchmeta
#   make bench        speed beside these libraries, every row; some: make bench W="W3 W6" ARGS="--rounds 5"
#   make results      every field's comparison on real data; some: make results D="speech finance"
#   make leaderboard  docs/leaderboard.html and docs/results.md from what is in results/
#   make check        linter and types only, seconds
#   make install      the environment for developing, .venv
#   make system-deps  what the tests use of Debian: chromium

VENV := .venv
BIN := $(VENV)/bin
# Processes that run tests side by side.
JOBS ?= 2
# The first Python that is new enough; name another with `make PYTHON=/path/to/python3.12 ...`.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# What stands in the caller's environment must not decide which packages are found.
unexport PYTHONPATH PYTHONHOME

.PHONY: demo test test-all test-peers bench results leaderboard check install system-deps
.DELETE_ON_ERROR:

demo: $(VENV)/installed-core
	@$(BIN)/python -m quickstudy demo

test: check
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

check: $(VENV)/installed-dev
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

install: $(VENV)/installed-dev

test-peers: .venv-peers/installed
	@.venv-peers/bin/python -m pytest -q -m peers tests/peers

bench: .venv-peers/installed
	@.venv-peers/bin/python benchmarks/bench.py $(W) $(ARGS)

results: $(VENV)/installed-dev
	@$(BIN)/python benchmarks/results.py $(D) $(ARGS)
	@$(BIN)/python docs/make_results.py

leaderboard: $(VENV)/installed-dev
	@$(BIN)/python docs/make_results.py

.venv-peers/installed: tests/peers/requirements.txt tests/peers/install.sh
	@$(MAKE) --no-print-directory VENV=.venv-peers .venv-peers/bin/python
	@echo "Installing other meta-learning libraries into .venv-peers (once, some minutes) ..."
	@tests/peers/install.sh .venv-peers/bin/python
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/bin/python:
	@$(make-venv)

# --- the environment ---------------------------------------------------------------------------------

PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

$(VENV)/installed-core: pyproject.toml constraints.txt
	@$(make-venv)
	@echo "Installing quickstudy into $(VENV) (once, some minutes) ..."
	@$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt
	@$(make-venv)
	@echo "Installing quickstudy and its developers' tools into $(VENV) (once, some minutes) ..."
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $(VENV)/installed-core $@

# One that works is kept, whichever Python it was made with; half of one, or one whose Python is gone, is made anew.
define make-venv
if $(BIN)/python -c 'import pip' 2>/dev/null; then exit 0; fi; \
if [ -z "$(PYTHON)" ]; then \
	echo "error: quickstudy needs Python 3.11 or newer; found $$(python3 --version 2>/dev/null || echo none)." \
		"Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 2; \
elif ! "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then \
	echo "error: $(PYTHON) cannot make a virtual environment, because its venv module is not installed." \
		"On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; \
fi; \
"$(PYTHON)" -m venv --clear $(VENV)
endef

system-deps:
	@if command -v chromium >/dev/null || command -v chromium-browser >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then sudo=; elif command -v sudo >/dev/null; then sudo=sudo; else \
		echo "error: chromium cannot be installed, because this is neither root nor is sudo there." >&2; exit 1; fi; \
	$$sudo apt-get update -qq && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium

# --- deep checks -------------------------------------------------------------------------------------
# One stamp a file of tests that has passed with these sources: what was stopped goes on where it was.

DEEP := $(shell grep -lE 'mark\.(e2e|slow)' -r tests --include='test_*.py' 2>/dev/null)
SOURCES := $(shell find src -name '*.py' -o -name '*.[ch]' -o -name '*.toml' -o -name '*.json' -o -name '*.j2')

test-all: test $(DEEP:%.py=build/passed/%)

build/passed/%: %.py $(SOURCES) $(VENV)/installed-dev
	@echo "--- $<"
	@$(BIN)/python -m pytest -q -m 'e2e or slow' --timeout 0 $<
	@mkdir -p $(@D) && touch $@
