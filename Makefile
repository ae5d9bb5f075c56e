# `make help` lists the targets. Everything is out of source, under build/.
SHELL := /bin/bash
PRESET ?= release
JOBS ?= 2
BIN := build/$(PRESET)/bin
CONFIG ?= config/default.yaml
# Rust from rustup or Debian's cargo-web where the PATH does not lead to it; the tests' Prometheus.
export PATH := $(CURDIR)/build/deps/prometheus/usr/bin:$(PATH):$(HOME)/.cargo/bin
FORMATTED := $(shell git ls-files 'src/*.h' 'src/*.cpp' 'tests/*.h' 'tests/*.cpp' 'bench/*.cpp' 'cmake/*.cpp' 2>/dev/null)

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what building needs (apt or Homebrew, Rust, MLX, the default model)
	@scripts/setup.sh build

.PHONY: configure
configure: setup
	@test -e build/$(PRESET)/build.ninja || cmake --preset $(PRESET) >/dev/null

.PHONY: build
build: configure ## Build the release binaries into build/release/bin
	@ninja -C build/$(PRESET) -j$(JOBS) mlx-serving mlx-serving-worker

.PHONY: serve
serve: build ## Set up, build and serve the default model on 127.0.0.1:8080
	@exec $(BIN)/mlx-serving serve --config $(CONFIG)

.PHONY: test
test: ## Set up, build and run every test that CI runs
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory configure
	@ninja -C build/$(PRESET) -j$(JOBS)
	@$(MAKE) --no-print-directory cuda-check
	@ctest --preset $(PRESET) -j$(JOBS) --output-on-failure
	@build/venv/bin/python -m pytest -q tests/e2e tests/clients

.PHONY: bench-build
bench-build: configure
	@ninja -C build/$(PRESET) -j$(JOBS) mlx-serving mlx-serving-worker mlxs-load mlxs-mock-worker answer_store_bench engine_bench

.PHONY: bench
bench: export MLXS_BIN_DIR := $(BIN)
bench: bench-build ## Measure gateway, engine and server, the last two beside mlx-lm and llama.cpp
	@scripts/setup.sh bench
	@scripts/setup.sh bench-llama
	@python3 bench/load/gateway.py
	@python3 bench/engine/compare.py --prompt-tokens 64 --answer-tokens 40
	@python3 bench/engine/compare.py --rounds 1 --limit 300 --name engine-bounds-joins joins:16:4096
	@python3 bench/engine/compare.py --rounds 1 --limit 540 --name engine-bounds-behind behind:4096:100
	@python3 bench/load/server.py users
	@python3 bench/load/server.py duplicates

.PHONY: sanitize
sanitize: ## Run the suites under ASan+UBSan (with MLX) and TSan (without it)
	@scripts/setup.sh test
	@scripts/sanitize.sh

SOAK_REQUESTS ?= 100000
ISOLATION_REQUESTS ?= 10000
SIM_WORLDS ?= 20000
.PHONY: soak
soak: export MLXS_BIN_DIR := $(BIN)
soak: configure ## Ask 100 000 requests, compare 10 000 answers with those given alone, simulate 2*10^7 steps, run large layers
	@ninja -C build/$(PRESET) -j$(JOBS) mlx-serving mlx-serving-worker mlxs-load isolation_test scheduler_sim_test configs_test
	@MLXS_SIM_WORLDS=$(SIM_WORLDS) $(BIN)/scheduler_sim_test
	@MLXS_ISOLATION_REQUESTS=$(ISOLATION_REQUESTS) $(BIN)/isolation_test
	@MLXS_TEST_SIZE=full $(BIN)/configs_test
	@python3 tests/soak/soak.py isolation --page --requests $(ISOLATION_REQUESTS)
	@python3 tests/soak/soak.py worker --page --requests $(SOAK_REQUESTS)
	@python3 tests/soak/soak.py serve --page --requests $(SOAK_REQUESTS)

# What only a GPU host runs compiles and links everywhere that NVIDIA's wheels are for.
.PHONY: cuda-check
cuda-check: ## Compile and link the kernels for NVIDIA and their tests (Linux on x86-64, no GPU)
ifeq ($(shell uname -sm),Linux x86_64)
	@scripts/setup.sh cuda
	@test -e build/cuda/build.ninja || cmake --preset cuda >/dev/null
	@ninja -C build/cuda -j$(JOBS) engine_cuda_test gpu_decode_step_test
else
	@echo 'cuda-check: not on this platform, for which NVIDIA has no compiler'
endif

.PHONY: cuda
cuda: ## Build for NVIDIA into build/mlx-serving-cuda.tar.gz (needs no GPU)
	@scripts/setup.sh cuda
	@test -e build/cuda/build.ninja || cmake --preset cuda >/dev/null
	@ninja -C build/cuda -j$(JOBS) mlx-serving mlx-serving-worker runner_bench engine_cuda_test gpu_decode_step_test
	@scripts/cuda_archive.sh

.PHONY: lint
lint: ## Check formatting, include directions and clang-tidy's allow-list
	@scripts/setup.sh test
	@scripts/lint.sh

.PHONY: format
format: ## Format all C++ sources in place
	@build/venv/bin/clang-format -i $(FORMATTED)

.PHONY: clean
clean: ## Remove build outputs (keeps downloads and the model)
	@rm -rf build/release build/dev build/tsan build/bench build/cuda
