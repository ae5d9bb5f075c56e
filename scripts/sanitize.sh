#!/usr/bin/env bash
# The suites under ASan+UBSan (everything, MLX included) and under TSan (everything but libmlx, which is
# not instrumented: the worker runs over a fake model there).
set -euo pipefail
cd "$(dirname "$0")/.."
jobs="${JOBS:-2}"
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1
export LSAN_OPTIONS=suppressions=$PWD/scripts/lsan.supp:print_suppressions=0
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
if ! command -v clang++-19 >/dev/null; then
  echo "sanitize: the tsan preset needs clang 19 (Debian: apt-get install clang-19 libclang-rt-19-dev)" >&2
  exit 1
fi
for preset in dev tsan; do
  cmake --preset "$preset" >/dev/null
  ninja -C "build/$preset" -j"$jobs"
  ctest --preset "$preset" -j"$jobs"
done
