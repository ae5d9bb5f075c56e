// How fast one runner computes steps, without server or scheduler:
//
//     runner_bench [--float32|--int8] MODEL [ROWS...]
//
// Prints the load time, prefill of one 512-token prompt, and for each number of rows (default 1, 8,
// 32) decoding 32 tokens each behind a prompt of 128. Tokens are arbitrary: time doesn't depend on
// them. Medians of the steps and the fastest one, so that a neighbour on the machine distorts less.
// With --float32 or --int8 in that mode instead of the default one.

#include "engine/model_runner.h"
#include "engine/step.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace mlxs::engine;

constexpr int kPromptTokens = 128;
constexpr int kDecodeTokens = 32;
constexpr int kPrefillTokens = 512;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Processor time of all threads, which a neighbour on the machine changes less than the wall's.
double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

double timed_step(Runner& runner, const Step& step) {
  const auto start = std::chrono::steady_clock::now();
  const auto logits = runner.run(step);
  if (!logits) {
    fmt::print(stderr, "{}\n", logits.error().message);
    std::exit(1);
  }
  return seconds_since(start);
}

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + std::ssize(values) / 2);
  return values[values.size() / 2];
}

/// `processor`: seconds of it that a step took.
void report(const std::string& what,
            int tokens,
            const std::vector<double>& times,
            double processor) {
  const double best = std::ranges::min(times);
  fmt::print(
      "{}: {:.1f} ms a step ({:.1f} ms of processor), {:.1f} tok/s; best {:.1f} ms, {:.1f}\n",
      what,
      median(times) * 1e3,
      processor * 1e3,
      tokens / median(times),
      best * 1e3,
      tokens / best);
}

/// Adds `count` tokens of a row that owns blocks [row · width, (row + 1) · width).
void add_segment(Step& step, int row, int width, int done, int count) {
  Segment segment{static_cast<int>(step.tokens.size()), count, done + count, {}};
  for (int i = 0; i < width; ++i) segment.blocks.push_back(BlockId{row * width + i});
  for (int i = 0; i < count; ++i) step.tokens.push_back((row * 31 + done + i) % 1000 + 100);
  step.segments.push_back(std::move(segment));
  step.logits_at.push_back(static_cast<int>(step.tokens.size()) - 1);
}

void measure_prefill(Runner& runner) {
  std::vector<double> times;
  const double cpu_start = cpu_seconds();
  for (int repeat = 0; repeat < 5; ++repeat) {
    Step step;
    add_segment(step, 0, kPrefillTokens / runner.info().block_tokens, 0, kPrefillTokens);
    times.push_back(timed_step(runner, step));
  }
  const double processor = (cpu_seconds() - cpu_start) / 5;
  report(fmt::format("prefill {} tokens", kPrefillTokens), kPrefillTokens, times, processor);
}

void measure_decode(Runner& runner, int rows) {
  const int block = runner.info().block_tokens;
  const int width = (kPromptTokens + kDecodeTokens + block - 1) / block;
  if (rows * width > runner.info().blocks_total) {
    fmt::print("decode {} rows: more blocks than there are\n", rows);
    return;
  }
  for (int row = 0; row < rows; ++row) {
    Step step;
    add_segment(step, row, width, 0, kPromptTokens);
    timed_step(runner, step);
  }
  std::vector<double> times;
  const double cpu_start = cpu_seconds();
  for (int i = 0; i < kDecodeTokens; ++i) {
    Step step;
    for (int row = 0; row < rows; ++row) add_segment(step, row, width, kPromptTokens + i, 1);
    times.push_back(timed_step(runner, step));
  }
  const double processor = (cpu_seconds() - cpu_start) / kDecodeTokens;
  report(fmt::format("decode {} rows", rows), rows, times, processor);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  const int model = mode.starts_with("--") ? 2 : 1;
  if (argc <= model) {
    fmt::print(stderr, "usage: runner_bench [--float32|--int8] MODEL [ROWS...]\n");
    return 2;
  }
  ModelOptions options;
  options.source = argv[model];
  if (mode == "--float32") options.compute = Compute::kFloat32;
  if (mode == "--int8") options.compute = Compute::kInt8;
  const auto start = std::chrono::steady_clock::now();
  auto runner = load_runner(options, {});
  if (!runner) {
    fmt::print(stderr, "{}\n", runner.error().message);
    return 1;
  }
  fmt::print("load: {:.2f} s, {} blocks of {} tokens\n",
             seconds_since(start),
             (*runner)->info().blocks_total,
             (*runner)->info().block_tokens);
  std::vector<int> rows;
  for (int i = model + 1; i < argc; ++i) rows.push_back(std::max(1, std::atoi(argv[i])));
  if (rows.empty()) rows = {1, 8, 32};
  measure_prefill(**runner);
  for (const int count : rows) measure_decode(**runner, count);
  return 0;
}
