# Two commands matter: `make run` shows the whole thing, `make test` proves it.
# Everything lives in $(VENV); nothing needs root.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
OUT ?= out
FILE ?=
# The CPU build of torch (200 MB; the default build brings gigabytes of CUDA along).
TORCH := torch==2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

RUN_EXTRAS := cpu,server,audio,plot,kernels
TEST_EXTRAS := $(RUN_EXTRAS),web,otel,export,dev,test
SOURCES := $(shell find cpp_ext kernels runtime export streaming src -type f \
  -not -name '*.so' -not -path '*/__pycache__/*' 2>/dev/null) pyproject.toml

.PHONY: help run test check nightly bench fuzz wheel smoke dev clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.run  ## stream a real scene through a real server: captions, codec, separation
	$(BIN)/ossicle demo $(FILE) --out $(OUT)

test: $(VENV)/.test  ## run every quick test against the installed wheel
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not slow and not gpu"

nightly: $(VENV)/.test  ## also run the tests that take long, and the kernels' without the compiled part
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not gpu"
	OSSICLE_CORE=0 $(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not slow and not gpu" tests/kernels

check: $(VENV)/.test  ## ruff, mypy --strict, stubs up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=src $(BIN)/mypy -p ossicle
	MYPYPATH=src $(BIN)/mypy benchmarks
	$(BIN)/python -m ossicle.streaming.proto.generate --check

bench: $(VENV)/.test  ## rerun the benchmarks of this machine (half an hour)
	$(BIN)/python -m benchmarks

fuzz: $(VENV)/.test  ## fuzz the readers of packets, files, messages and snapshots
	$(BIN)/pip install --quiet atheris
	$(BIN)/python tests/fuzz/run.py --seconds $(or $(SECONDS),600)

wheel: $(VENV)/.test  ## build the wheel and the source distribution into dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

smoke: wheel  ## install the wheel into a clean environment and use it there
	sh .ci/smoke $(PYTHON) $(VENV)-smoke

dev: $(VENV)/.test  ## compile the extension into the tree, for PYTHONPATH=src
	sh cpp_ext/dev_build.sh $(BIN)/python

clean:  ## remove environments and everything that was built
	rm -rf $(VENV) $(VENV)-smoke build dist $(OUT)

$(BIN)/pip:
	@echo "Making $(VENV) with $$($(PYTHON) --version)."
	sh .ci/venv $(PYTHON) $(VENV)

# The compiler is optional: without one the wheel is pure Python, slower, and says so.
$(VENV)/.run: $(BIN)/pip $(SOURCES)
	@echo "Installing Ossicle to run: downloads about 130 MB the first time" \
	  "(NumPy, ONNX Runtime, gRPC, numba, matplotlib)."
	$(BIN)/pip install --quiet ".[$(RUN_EXTRAS)]"
	@touch $@

$(VENV)/.test: $(BIN)/pip $(SOURCES)
	@echo "Installing Ossicle to test: downloads about 600 MB the first time" \
	  "(the above, the CPU build of torch, ONNX tools, peers to compare with)."
	$(BIN)/python -c "import torch" 2>/dev/null \
	  || $(BIN)/pip install --quiet "$(TORCH)+cpu" 2>/dev/null \
	  || $(BIN)/pip install --quiet "$(TORCH)" --index-url $(TORCH_INDEX)
	$(BIN)/pip install --quiet ".[$(TEST_EXTRAS)]"
	@$(BIN)/pip install --quiet ".[measure]" 2>/dev/null \
	  || echo "No C compiler here, so no PESQ: the tests that measure with it are skipped."
	@touch $@ $(VENV)/.run
