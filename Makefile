# make demo    sets up what is missing, runs the whole study small on the real patients in assets/demo
# make test    sets up what is missing, runs every test that needs no cluster, no Docker and no GPU
# make check   lint, types and the fast tests, before every commit
# The other targets: setup bench test-demo test-chaos test-full fuzz lint types images test-docker test-k8s test-slurm bench-gpu lock audit docs clean

PYTHON ?= python3
UV_VERSION := 0.13.9
CACHE := $(or $(SYNTHCT_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/synthct)
UV := $(CACHE)/uv-$(UV_VERSION)/bin/uv
READY := .venv/.ready

# --- set-up
.PHONY: setup
setup: $(READY)
	@./nextflow -version >/dev/null

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is older than 3.11; say PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(CACHE)/uv-$(UV_VERSION)
	$(CACHE)/uv-$(UV_VERSION)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(READY): requirements.lock | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	$(UV) pip sync --quiet --compile-bytecode --require-hashes --python .venv/bin/python requirements.lock
	@touch $@

# --- run
.PHONY: demo
demo: setup
	./nextflow run main.nf -profile test --outdir demo -work-dir demo/work -resume
	@echo "The report: $(CURDIR)/demo/report/report.html"

# --- check
.PHONY: check test test-demo test-chaos test-full fuzz test-modules test-docker test-k8s test-slurm lint types bench
# rooms whose tests run in seconds
FAST := tests/core tests/cases tests/cohort tests/study tests/images/test_labels.py tests/networks/test_unetpp.py tests/evaluation/test_metrics.py

check: lint types
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile $(FAST)

# in the order of tests/conftest.py: the longest file first, and not sorted behind files with more tests in them
test: setup lint
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests

# the demo at its full length: all that is promised is there, and each arm beats the best constant
test-demo: setup
	.venv/bin/python tests/demo/run

# kills a small study at moments drawn from SEED and compares what is published with an uninterrupted run's
test-chaos: setup
	OMP_NUM_THREADS=1 .venv/bin/python tests/chaos/run --seed $(or $(SEED),16) --kills $(or $(KILLS),30)

# the same study on a work directory that is too small, again and again, and into a directory that nobody can write to (root)
test-full: setup
	OMP_NUM_THREADS=1 .venv/bin/python tests/chaos/full

# atheris on each reader for SECONDS; it lies beside the environment, which the lock alone decides
ATHERIS := $(CACHE)/atheris-3.0.0
$(ATHERIS): | $(UV)
	$(UV) pip install --quiet --no-deps --python .venv/bin/python --target $@ atheris==3.0.0

fuzz: setup $(ATHERIS)
	PYTHONPATH=$(ATHERIS) OMP_NUM_THREADS=1 .venv/bin/python tests/fuzz/run --seconds $(or $(SECONDS),120)

# each module alone, by the nf-test beside it; without nf-test its stub, on the same inputs
test-modules: setup
	@if command -v nf-test >/dev/null; then PATH="$(CURDIR):$$PATH" nf-test test modules/local; else \
		echo "make: nf-test is not on PATH: each module's stub runs, and what the nf-tests assert of it is not checked"; \
		.venv/bin/python -m pytest tests/engine/test_modules.py; fi

test-docker: setup
	tests/docker/run

test-k8s: setup
	tests/k8s/run

test-slurm: setup
	.venv/bin/python tests/slurm/run

lint: setup
	.venv/bin/ruff check bin tests benchmarks
	.venv/bin/ruff format --check bin tests benchmarks

types: setup
	.venv/bin/mypy

# KONFAI=<the Python of an environment with konfai 1.8.7> adds the comparison with KonfAI
bench: setup
	@OMP_NUM_THREADS=1 .venv/bin/python benchmarks/training.py $(if $(KONFAI),--konfai $(KONFAI))
	@OMP_NUM_THREADS=1 .venv/bin/python benchmarks/inference.py compute konfai $(if $(KONFAI),--konfai $(KONFAI))
	@OMP_NUM_THREADS=1 .venv/bin/python benchmarks/metrics.py --size 100 256 256 --repeat 1

# Nine minutes on a GPU machine that has Python and a package index, or WHEELS=<a directory of wheels>; no Nextflow
.PHONY: bench-gpu
bench-gpu:
	$(PYTHON) benchmarks/bench-gpu $(if $(WHEELS),--wheels $(WHEELS))

# --- build
.PHONY: images lock audit docs clean
images:
	containers/build

lock: | $(UV)
	$(UV) pip compile --quiet --upgrade --override requirements.override --generate-hashes --no-header --no-emit-index-url --python-version 3.11 requirements.in -o requirements.lock
	containers/lock

audit: setup | $(UV)
	@containers/audit $(UV)

# the drawing of the rooms in docs/design.md
docs:
	.venv/bin/python benchmarks/house.py --write

clean:
	rm -rf .venv .mypy_cache demo work results .nextflow*
