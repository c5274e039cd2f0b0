# Every target sets itself up in .venv; needed are Python 3.10 to 3.13, make and git. `make help` lists the targets.

PYTHON ?= python3
DEMO_ARGS ?=
BENCH_ARGS ?=
LOAD_ARGS ?=
MODEL_ARGS ?=
REPORT_ARGS ?=
FAULTS_ARGS ?= --json benchmarks/results/faults.json
SOAK_ARGS ?= --minutes 30
# Triton's stub runs under Debian's and Ubuntu's own Python, not under other builds of the same version.
ENGINES_PYTHON ?= /usr/bin/python3
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# That wheelhouse/ is filled for; aarch64 for images that are built here for a Raspberry Pi.
MACHINE ?= $(shell uname -m)

VENV := .venv
BIN := $(VENV)/bin
ENGINES := .venv-engines
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# The pinned hatchling is installed first: an isolated build would fetch whatever is newest.
INSTALL := $(PIP) --no-build-isolation --editable
PROTOC := $(BIN)/python -m grpc_tools.protoc -Iproto
PROTO_FILES := proto/twinsplit/rpc/v1/*.proto proto/twinsplit/oip/v2/*.proto
GENERATED := twinsplit/rpc/v1 twinsplit/oip/v2
OTHER_TESTS := --ignore tests/faults --ignore tests/engines
# A file stays on one core, for its fixtures. In the order of their names the many small ones of tests/unit come last and
# even out; xdist's own order, most tests first, leaves the few long ones to the end.
ON_ALL_CORES := --numprocesses auto --dist loadfile --no-loadscope-reorder
# For tests that mostly wait; which file goes where is said in the conftest.py of their folder.
IN_TWO_LANES := --numprocesses 2
# Tests of a folder, or those of its files that TEST_ARGS names.
within = $(if $(filter $1/%,$(TEST_ARGS)),,$1) $(TEST_ARGS)

# The tests start hundreds of processes, which would compile all of the code each where the caller forbids to keep it.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test test-system test-faults test-engines engines faults soak lint audit types proto proto-check check bench load report model wheel wheelhouse up down logs issue
# Two pips must not write into one .venv at once.
.NOTPARALLEL:

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

demo: $(VENV)/.demo ## the demo with its closing table; DEMO_ARGS="--seconds 10 --json FILE"
	@$(BIN)/twinsplit demo $(DEMO_ARGS)

test: $(VENV)/.dev ## all tests that need nothing but pip; TEST_ARGS="-k word"
ifdef TEST_ARGS
	$(BIN)/python -m pytest $(OTHER_TESTS) -m "not system" $(TEST_ARGS)
else
	$(BIN)/python -m pytest $(OTHER_TESTS) --ignore tests/system --ignore tests/alone $(ON_ALL_CORES)
	$(BIN)/python -m pytest tests/alone
endif

test-system: $(VENV)/.dev ## tests that need Debian packages, an engine or root; ALLOW_MISSING=1 leaves out what cannot run
	@$(BIN)/python -m pytest -m system $(call within,tests/system) --collect-only -qq >/dev/null || test $$? -ne 4 # 4: it lacks something
	$(BIN)/python -m pytest -m system $(call within,tests/system) $(IN_TWO_LANES)

test-faults: $(VENV)/.dev ## one cell per fault and service, and two minutes of random faults (3 minutes)
	$(BIN)/python -m pytest tests/faults $(IN_TWO_LANES)

test-engines: $(VENV)/.dev $(ENGINES)/.installed ## device, edge and real servers behind it, Triton and MLServer (3 minutes; x86-64 Linux)
	$(BIN)/python -m pytest $(call within,tests/engines)

engines: $(ENGINES)/.installed ## Triton and MLServer in an environment of their own, for test-engines and bench engine-hop

faults: $(VENV)/.dev ## the whole matrix of faults, services and moments (10 minutes); FAULTS_ARGS="--only edge killed"
	@$(BIN)/python -m tests.faults $(FAULTS_ARGS)

soak: $(VENV)/.dev ## random faults for long: nothing lost, nothing doubled, nothing grows; SOAK_ARGS="--minutes 2"
	@$(BIN)/python -m tests.faults.soak $(SOAK_ARGS)

lint: $(VENV)/.dev ## ruff and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

audit: $(VENV)/.dev ## known vulnerabilities in pinned packages, and a security linter over the code
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive twinsplit device edge twin_service models benchmarks deploy docs
	@$(BIN)/python deploy/audit.py

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy

proto: $(VENV)/.dev ## generate twinsplit/rpc/v1 and twinsplit/oip/v2 from proto/
	$(PROTOC) --python_out=. --pyi_out=. --grpc_python_out=. $(PROTO_FILES)

proto-check: $(VENV)/.dev ## are twinsplit/rpc/v1 and twinsplit/oip/v2 what proto/ generates?
	@! find proto -name __init__.py | grep . || { echo 'proto/ must not hold the files above: they would shadow proto-plus' >&2; exit 2; }
	@rm -rf build/proto-check && mkdir -p build/proto-check
	@$(PROTOC) --python_out=build/proto-check --pyi_out=build/proto-check --grpc_python_out=build/proto-check $(PROTO_FILES)
	@for folder in $(GENERATED); do \
	  diff -r -x __init__.py -x __pycache__ build/proto-check/$$folder $$folder \
	    || { echo "$$folder is not what proto/ generates; run: make proto" >&2; exit 2; }; \
	done
	@echo '$(GENERATED) are what proto/ generates'

check: test test-system test-faults test-engines lint audit types proto-check ## what CI runs

bench: $(VENV)/.dev ## micro-benchmarks; results go to benchmarks/results/
	@$(BIN)/twinsplit bench $(BENCH_ARGS)

load: $(VENV)/.dev ## how much one edge and one twin hold, into docs/load.md (20 minutes); LOAD_ARGS=--quick
	@$(BIN)/twinsplit bench load $(LOAD_ARGS)

report: $(VENV)/.dev ## draw docs/report from benchmarks/results; RUN=1 measures first (hours), QUICK=1 a small one into build/report
	$(BIN)/python -m benchmarks.report $(if $(QUICK),--quick) $(if $(RUN),--run) $(REPORT_ARGS)

model: $(VENV)/.model ## train the network that ships (needs torch, under 60 minutes on two cores)
	$(BIN)/python -m models.train $(MODEL_ARGS)

wheel: $(VENV)/.dev ## build dist/twinsplit-*.whl
	@rm -rf dist
	$(BIN)/hatchling build --target wheel --directory dist

# A version such as 2.13.0+cpu counts as newer than 2.13.0, the CUDA build, wherever it is found.
wheelhouse: $(VENV)/.created ## torch's wheel for the CPU into wheelhouse/, for images built where PyTorch's index is out of reach; MACHINE=aarch64
	@ls wheelhouse/torch-*$(MACHINE).whl 2>/dev/null || $(BIN)/python -m pip download --quiet --disable-pip-version-check --retries 2 \
	  --extra-index-url $(TORCH_INDEX) --constraint constraints.txt --no-deps --only-binary=:all: --python-version 3.11 \
	  --platform manylinux_2_28_$(MACHINE) --dest wheelhouse torch

up: ## all services, Prometheus and Grafana in containers; LAN=ADDRESS lets other machines join; SERVICES="twin edge ..."
	@$(if $(LAN),LAN='$(LAN)') deploy/compose/up $(SERVICES)

down: ## stop the containers; VOLUMES=1 forgets the twin's state, certificates and recorded metrics, too
	@LAN=127.0.0.1 docker compose -f docker-compose.yml -f deploy/compose/lan.yml down --remove-orphans $(if $(VOLUMES),--volumes)

logs: ## follow the containers' logs
	@docker compose logs --follow --tail 100

issue: ## certificate for a machine that joins: NAME=camera-1, ROLE=device, HOSTS="192.168.1.11 ..." of an edge
	@deploy/compose/issue '$(or $(ROLE),device)' '$(NAME)' $(HOSTS)

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null \
	  || { echo '$(PYTHON) is missing. Install it, then run make again:' >&2; echo '    sudo apt install python3 python3-venv' >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo '$(PYTHON) is older than 3.10. Name a newer one: make PYTHON=python3.11 ...' >&2; exit 2; }
	@$(PYTHON) -c 'import venv; from ensurepip import version' 2>/dev/null \
	  || { echo 'python3-venv is missing. Install it, then run make again:' >&2; echo '    sudo apt install python3-venv' >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.created pyproject.toml constraints.txt
	@echo 'Installing twinsplit into $(VENV): without torch, 77 MB to download the first time'
	@$(PIP) hatchling
	@$(INSTALL) '.[demo]'
	@touch $@

# Holds all that the demo needs too, so that the demo does not install again after the tests.
$(VENV)/.dev: $(VENV)/.torch
	@echo 'Installing twinsplit and its test tools into $(VENV): 300 MB to download the first time, torch apart'
	@$(PIP) hatchling
	@$(INSTALL) '.[dev,learn]'
	@touch $(VENV)/.demo $@

$(ENGINES)/.installed: benchmarks/engines/requirements.txt
	@echo 'Installing Triton and MLServer into $(ENGINES): 150 MB to download the first time'
	@$(ENGINES_PYTHON) -c 'import venv; from ensurepip import version' 2>/dev/null \
	  || { echo '$(ENGINES_PYTHON) cannot make environments. Install what it lacks, then run make again:' >&2; echo '    sudo apt install python3 python3-venv' >&2; exit 2; }
	@$(ENGINES_PYTHON) -m venv --clear $(ENGINES)
	@$(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/engines/requirements.txt
	@touch $@

$(VENV)/.model: $(VENV)/.torch
	@$(PIP) hatchling
	@$(INSTALL) '.[model]'
	@touch $@

# The ordinary index serves CUDA builds of several GB, hence PyTorch's CPU index first. torch comes alone and
# before the rest: what it needs is pinned, and the CPU index does not hold those versions.
$(VENV)/.torch: $(VENV)/.created pyproject.toml constraints.txt
	@echo 'Installing torch for the CPU into $(VENV): 190 MB to download the first time'
	@if $(BIN)/python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)' $(TORCH_INDEX)/torch/ 2>/dev/null \
	    && $(PIP) --no-deps --index-url $(TORCH_INDEX) torch; then \
	  echo "torch comes from PyTorch's CPU index, $(TORCH_INDEX)"; \
	elif $(PIP) --no-deps torch; then \
	  echo "torch comes from pip's configured index: PyTorch's CPU index does not answer"; \
	elif $(PIP) --no-deps --no-index --find-links wheelhouse torch; then \
	  echo "torch comes from wheelhouse/: neither PyTorch's CPU index nor pip's configured index has it"; \
	else \
	  echo "No index has the torch that constraints.txt names. Put its wheel into wheelhouse/, then run make again." >&2; exit 2; \
	fi
	@touch $@
