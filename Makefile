# Needs Python 3.10 to 3.13, make and a package index; `make help` lists what can be done.
# Another Python: `make PYTHON=python3.13 …`; another place for the environment: `make VENV=.venv-313 …`.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?=
VENV ?= .venv
VENV2 ?= .venv-airflow2
DAYS ?= 31
DEMO := .demo
BENCHMARK ?=

# --- Set-up ---------------------------------------------------------------------------------------------------------

PYTHONS := $(or $(PYTHON),python3.12 python3.11 python3.13 python3.10 python3)
# Airflow 2.11 ends at Python 3.12, so here PYTHON is only the first of several.
PYTHONS2 := $(PYTHON) python3.12 python3.11 python3.10 python3

# $(call find_python,<candidates>,<newest minor version>): prints the first that really runs and can make environments
# (a shim may be on PATH and fail), or nothing.
find_python = for candidate in $(1); do \
	if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, $(2)))' \
		2>/dev/null; then echo "$$candidate"; break; fi; done

# uv does not read pip's settings: pass on what the machine says about its package index and certificates.
pip_setting = $$($(1)/bin/python -m pip config get global.$(2) 2>/dev/null || true)
as_pip = UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$(call pip_setting,$(1),index-url)}}"; \
	UV_FIND_LINKS="$${UV_FIND_LINKS:-$${PIP_FIND_LINKS:-$(call pip_setting,$(1),find-links)}}"; \
	SSL_CERT_FILE="$${SSL_CERT_FILE:-$${PIP_CERT:-$(call pip_setting,$(1),cert)}}"; \
	for name in UV_DEFAULT_INDEX UV_FIND_LINKS SSL_CERT_FILE; do \
		eval "value=\$$$$name"; if [ -n "$$value" ]; then export "$$name"; else unset "$$name"; fi; done; \
	export VIRTUAL_ENV="$(abspath $(1))"

# $(call install,<environment>,<requirements>): the pinned packages, then this package as a link to the checkout.
install = $(call as_pip,$(1)); uv="$(1)/bin/uv"; \
	"$$uv" pip install --quiet --require-hashes -r $(2) && \
	"$$uv" pip install --quiet --no-deps --no-build-isolation -e .

# A stamp is named after what it was made from; as long as that is unchanged there is nothing to do.
key = $(shell cat $(1) requirements/uv.txt pyproject.toml provider/dask_provider/__init__.py | cksum | tr -s ' ' '-')
DEMO_STAMP := $(VENV)/.demo-$(call key,requirements/demo.txt)
TEST_STAMP := $(VENV)/.test-$(call key,requirements/demo.txt requirements/test.txt)
BENCHMARK_STAMP := $(VENV)/.benchmark-$(call key,requirements/test.txt requirements/benchmark.txt)
AIRFLOW2_STAMP := $(VENV2)/.airflow2-$(call key,requirements/airflow2.txt)

# $(call make_venv,<environment>,<candidates>,<newest minor version>): an environment with the pinned uv in it.
make_venv = if ! $(1)/bin/python -c '' 2>/dev/null; then \
		python=$$($(call find_python,$(2),$(3))); \
		if [ -z "$$python" ]; then \
			echo "no Python from 3.10 to 3.$(3) (with venv and ensurepip) was found: make PYTHON=/path/to/python" >&2; \
			exit 1; fi; \
		echo "making $(1) with $$("$$python" --version)"; \
		"$$python" -m venv --clear $(1); fi; \
	$(1)/bin/python -m pip --version >/dev/null 2>&1 || $(1)/bin/python -m ensurepip >/dev/null; \
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

$(DEMO_STAMP):
	@set -e; $(call make_venv,$(VENV),$(PYTHONS),13)
	@echo "installing requirements/demo.txt into $(VENV)"
	@set -e; $(call install,$(VENV),requirements/demo.txt)
	@rm -f $(VENV)/.demo-*; touch $@

# All of the demo's packages in the same versions and more, so the demo has nothing to install after this.
$(TEST_STAMP):
	@set -e; $(call make_venv,$(VENV),$(PYTHONS),13)
	@echo "installing requirements/test.txt into $(VENV)"
	@set -e; $(call install,$(VENV),requirements/test.txt)
	@rm -f $(VENV)/.demo-* $(VENV)/.test-*; touch $(DEMO_STAMP) $@

$(BENCHMARK_STAMP): $(TEST_STAMP)
	@echo "installing requirements/benchmark.txt into $(VENV)"
	@set -e; $(call install,$(VENV),requirements/benchmark.txt)
	@rm -f $(VENV)/.benchmark-*; touch $@

$(AIRFLOW2_STAMP):
	@set -e; $(call make_venv,$(VENV2),$(PYTHONS2),12)
	@echo "installing requirements/airflow2.txt into $(VENV2)"
	@set -e; $(call install,$(VENV2),requirements/airflow2.txt)
	@rm -f $(VENV2)/.airflow2-*; touch $@

# --- What can be done -----------------------------------------------------------------------------------------------

.PHONY: help
help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target text; do printf '%-20s %s\n' "$$target" "$$text"; done

.PHONY: demo
demo: $(DEMO_STAMP)  ## run the nightly Dask job under a real Airflow and watch it (DAYS=31; DAYS=365 is the year)
	@exec $(VENV)/bin/python -m dev.demo --days $(DAYS) --folder $(DEMO)

.PHONY: up
up: $(DEMO_STAMP)  ## the demo's Airflow kept running, with its UI
	@exec $(VENV)/bin/python -m dev.demo --up --folder $(DEMO)

.PHONY: down
down:  ## end what `make up` started
	@if [ -x $(VENV)/bin/python ]; then exec $(VENV)/bin/python -m dev.airflow_server down --home $(DEMO)/airflow; fi

.PHONY: kubernetes-up
kubernetes-up: $(TEST_STAMP)  ## a Kubernetes with the Dask operator on this machine, as the tests have it
	@exec $(VENV)/bin/python -m tests.servers.kubernetes up

.PHONY: kubernetes-down
kubernetes-down:  ## end what `make kubernetes-up` started
	@if [ -x $(VENV)/bin/python ]; then exec $(VENV)/bin/python -m tests.servers.kubernetes down; \
	else echo "nothing was ended: it takes $(VENV), which is not there"; fi

# Tests on Kubernetes mostly wait, so those that reckon go beside them. Then, one after another, what needs the machine:
# clusters of several machines, and a whole Airflow.
.PHONY: test
test: lint airflow2  ## set-up, lint and all tests, on Airflow 3 and 2.11
	@trap : INT; $(VENV)/bin/python -m dev.side_by_side \
		"$(MAKE) --keep-going test-kubernetes test-airflow2" "$(MAKE) test-others"; \
	status=$$?; test $$status -ne 130 || exit 130; \
	$(MAKE) test-alone && exit $$status

PYTEST = $(VENV)/bin/python -m pytest -m "not whole" --durations=40
ON_KUBERNETES := tests/integration/kubernetes
ALONE := tests/integration/dataproc tests/system

.PHONY: test-kubernetes
test-kubernetes: $(TEST_STAMP)
	$(PYTEST) $(ON_KUBERNETES)

.PHONY: test-others
test-others: $(TEST_STAMP)
	$(PYTEST) tests $(addprefix --ignore=,tests/airflow2 $(ON_KUBERNETES) $(ALONE))

# Also starts an Airflow 2.11 of the other environment where a test asks for one.
.PHONY: test-alone
test-alone: $(TEST_STAMP)
	AIRFLOW2_PYTHON=$(abspath $(VENV2))/bin/python $(PYTEST) $(ALONE)

# What takes too long for every change: it says little more than its neighbours, waits for minutes (an API server that is
# away), or needs a server of its own (YARN, FUSE).
.PHONY: test-whole
test-whole: $(TEST_STAMP)  ## the tests that `make test` leaves out
	$(VENV)/bin/python -m pytest tests --ignore=tests/airflow2 -m whole

# tests/unit runs on both versions; tests/airflow2 holds what must run inside Airflow 2.11's own Python.
.PHONY: test-airflow2
test-airflow2: airflow2
	@if [ -x $(VENV2)/bin/python ]; then set -x; $(VENV2)/bin/python -m pytest tests/unit $(wildcard tests/airflow2); fi

# A machine without a Python for Airflow 2.11 can run the rest; with CI=true it must have one.
.PHONY: airflow2
airflow2:
	@if [ -x $(VENV2)/bin/python ] || [ -n "$$($(call find_python,$(PYTHONS2),12))" ]; then \
		exec $(MAKE) --no-print-directory $(AIRFLOW2_STAMP); fi; \
	echo "skipped: tests on Airflow 2.11 need a Python from 3.10 to 3.12, and none was found"; \
	test "$(CI)" != true

.PHONY: lint
lint: $(TEST_STAMP)  ## format, style, types, shell scripts, and that imports go one way
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python -m dask_provider.hooks.dataproc.actions .test/actions >/dev/null
	$(VENV)/bin/shellcheck .test/actions/*.sh tests/servers/dataproc/node/*.sh

.PHONY: terraform
terraform: $(TEST_STAMP)  ## format, tests and policies of terraform/, as in `make test`
	$(VENV)/bin/python -m pytest tests/terraform

.PHONY: docs
docs: $(TEST_STAMP)  ## the documentation into site/
	$(VENV)/bin/mkdocs build --strict --quiet

.PHONY: benchmark
benchmark: $(BENCHMARK_STAMP)  ## side-by-side costs, ratios printed and written as JSON (BENCHMARK=name; all take hours)
	$(VENV)/bin/python -m benchmarks $(BENCHMARK)

.PHONY: requirements
requirements: $(DEMO_STAMP)  ## choose all pinned versions anew from requirements/*.in
	@set -e; $(call as_pip,$(VENV)); \
	compile() { $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
		--custom-compile-command "make requirements" "requirements/$$1.in" -o "requirements/$$1.txt" $$2 $$3; }; \
	for name in uv test airflow2 checkov; do compile $$name; done; \
	for name in demo benchmark image operator; do compile $$name -c requirements/test.txt; done

.PHONY: clean
clean: down kubernetes-down  ## remove the environments, the demo and all that tools left
	rm -rf $(VENV) $(VENV2) $(DEMO) .test site dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
