#!/usr/bin/env bash
# Formatting of every source, the tidy test, and clang-tidy on what changed since main (ALL=1: on all).
set -euo pipefail
cd "$(dirname "$0")/.."
build/venv/bin/pip install -q --disable-pip-version-check --require-hashes -r scripts/lint-requirements.txt
mapfile -t sources < <(git ls-files 'src/*.h' 'src/*.cpp' 'tests/*.h' 'tests/*.cpp' 'bench/*.cpp' 'cmake/*.cpp')
build/venv/bin/clang-format --dry-run --Werror "${sources[@]}"
python3 tests/tidy/tidy_test.py
cmake --preset release >/dev/null
if [ -n "${ALL:-}" ]; then
  mapfile -t changed < <(git ls-files 'src/*.cpp')
else
  mapfile -t changed < <(git diff --name-only --diff-filter=d "$(git merge-base HEAD "${BASE:-main}")" -- 'src/*.cpp')
fi
[ ${#changed[@]} = 0 ] || printf '%s\n' "${changed[@]}" | xargs -P2 -n4 build/venv/bin/clang-tidy -p build/release --quiet \
  --extra-arg=-Wno-unknown-warning-option
echo "lint: clean (${#sources[@]} files formatted, ${#changed[@]} checked by clang-tidy)"
