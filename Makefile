# Each command sets up what it needs by itself: a `.venv` here and, where it may (root on Debian), two packages by apt.
# Everything in the `.venv` has the version and the hash that .ci/requirements/ says, which only `make pins` changes.
# Another interpreter: make test PYTHON=python3.12       More for pytest: make test ARGS="-k redis -x"
# Tests wait more than they compute, so JOBS of them run at once; JOBS=0 runs them one after the other.

PYTHON ?= python3
JOBS ?= 4
VENV := .venv
NEWEST := .nox/newest
AUDIT := .nox/audit
PINNED := yes
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install
REDIS := /usr/bin/redis-check-rdb
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Where pyenv keeps its interpreters; its own `python3.12` and the like run only what a project has chosen.
PYENV := $(shell echo $(HOME)/.pyenv/versions/*/bin | tr ' ' ':')

# Stamps: what is installed, for which Python. A changed pyproject.toml, or changed pins, make them stale.
MADE := $(VENV)/.made-$(VERSION)
DEMO := $(VENV)/.demo-$(VERSION)
DEV := $(VENV)/.dev-$(VERSION)

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test unit coverage matrix simulate chaos system bench check newest pins audit redis clean

help: ## What can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO) ## A fleet of workers on one fetch, live: ARGS="--workers 8"
	@$(BIN)/flagcache demo $(ARGS)

test: $(DEV) redis ## All tests, on real servers: ARGS="-k redis -x"
	$(BIN)/pytest -n $(JOBS) --dist worksteal $(ARGS)

unit: $(DEV) ## The unit tests, in about a minute: no server, no second process: ARGS="-k payload -x"
	$(BIN)/pytest tests/unit -n $(JOBS) --dist worksteal $(ARGS)

# A failed test doesn't count here, because some limit a time or the memory, which measuring needs too. `make test` judges.
coverage: $(DEV) redis ## What all tests reach, in every process that they fork or start: half an hour
	$(BIN)/coverage erase
	-$(BIN)/coverage run -m pytest -q -n $(JOBS) --dist worksteal $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

matrix: $(DEV) redis ## The supported versions of Python, redis-py and the SDK: ARGS="-s oldest -- -x"
	PATH="$(PYENV):$$PATH" $(BIN)/nox --noxfile tests/noxfile.py --no-error-on-missing-interpreters $(ARGS)

chaos: $(DEV) redis ## All that can go wrong, with real processes and servers: ROUNDS=3 SEED=7 ARGS="-k redis"
	CHAOS_ROUNDS=$(or $(ROUNDS),1) CHAOS_SEED=$(or $(SEED),$(shell date +%s)) $(BIN)/pytest tests/chaos $(ARGS)

system: $(DEV) redis ## Fleets judged from outside, at true scale too, and random torture: ROUNDS=20 SEED=7 ARGS="-n 2"
	SYSTEM=1 SYSTEM_TRUE_SCALE=1 TORTURE_ROUNDS=$(or $(ROUNDS),10) TORTURE_SEED=$(or $(SEED),0) $(BIN)/pytest tests/system $(ARGS)

simulate: $(DEV) ## Thousands of simulated fleets, judged by the truth: ARGS="--runs 20000 --first 5000"
	PYTHONPATH=.:providers $(BIN)/python -m tests.simulation.run $(ARGS)

bench: $(DEV) redis ## What a fleet sees, beside others, two hours: ARGS="--rounds 1"
	PYTHONPATH=.:providers $(BIN)/python -m benchmarks all $(ARGS)

check: $(DEV) ## Style, types (by two checkers) and the rules on what may import what
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

newest: redis ## Checks and tests with the newest release of everything, not with the pins; names the one that fails
	rm -rf $(NEWEST)
	@$(MAKE) --no-print-directory $(NEWEST)/.dev-$(VERSION) VENV=$(NEWEST) PINNED=
	@PYTHONPATH=. $(NEWEST)/bin/python -m tests.newest $(MAKE) VENV=$(NEWEST) PINNED=

pins: $(DEV) ## Renew .ci/requirements/: the newest releases that pyproject.toml allows, for every supported Python
	@$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement .ci/requirements/pins.txt
	@PYTHONPATH=. $(BIN)/python -m tests.pins

audit: $(DEV) $(AUDIT)/.made-$(VERSION) ## Known vulnerabilities of what is pinned, as osv.dev lists them; needs an internet connection
	@PYTHONPATH=. $(BIN)/python -m tests.audit $(AUDIT)/bin/pip-audit $(ARGS)

clean: ## Remove all that was made here, the .venv too
	rm -rf $(VENV) .nox build dist .coverage.d .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(DEV): $(MADE) pyproject.toml flagcache/_version.py .ci/requirements/dev.txt
	@echo "installing flagcache and its tools into $(VENV)"
	@$(if $(PINNED),$(call pinned,dev),$(unpinned))
	@touch $@ $(DEMO)

$(DEMO): $(MADE) pyproject.toml flagcache/_version.py .ci/requirements/demo.txt
	@echo "installing flagcache into $(VENV)"
	@$(call pinned,demo)
	@touch $@

$(AUDIT)/.made-$(VERSION): .ci/requirements/audit.txt
	@$(PYTHON) -m venv --clear $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --require-hashes --no-deps --requirement .ci/requirements/audit.txt
	@touch $@

# First what the pins name, then the project itself, which has no hash, with the build tools that are there by now.
define pinned
$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement .ci/requirements/$(1).txt && \
  $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
endef

# The first pip to know --group is 25.1.
define unpinned
$(BIN)/python -m pip install --quiet --upgrade pip && \
  $(BIN)/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[demo,encryption,testing]' --group dev
endef

# A .venv of the right Python is kept; one of another Python is replaced.
$(MADE):
	@test -n "$(VERSION)" || { echo "there is no $(PYTHON): install Python 3.10 or later, or say PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "$(PYTHON) is $(VERSION): 3.10 or later is needed"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(call apt,python$(VERSION)-venv); } || \
	  { echo "$(PYTHON) cannot make a venv: as root, apt-get install python$(VERSION)-venv"; exit 1; }
	@test -x $(BIN)/python$(VERSION) || { echo "making $(VENV) with Python $(VERSION)"; $(PYTHON) -m venv --clear $(VENV); }
	@touch $@

# Redis 7.0 with TLS: a program only, no service. The other servers are wheels.
redis:
	@test -x $(REDIS) || { $(call apt,redis-tools); } || \
	  echo "no Redis from Debian here (as root: apt-get install --no-install-recommends redis-tools): its tests are left out"

# Install a package, with a fresh list if there is none; fails where we may not.
define apt
test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "apt-get install $(1)" && \
  { $(APT) $(1) >/dev/null 2>&1 || { apt-get -qq update && $(APT) $(1) >/dev/null; }; }
endef
