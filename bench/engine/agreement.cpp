// How far the default arithmetic is from float32's:
//
//     agreement [--int8] MODEL POSITIONS TEXTFILE...
//
// With --int8 that mode's arithmetic. Cuts windows of 512 tokens out of the texts, evenly, until
// there are POSITIONS, and computes each in both modes. Prints the share of positions at which the
// best tokens agree, the perplexities, and the largest difference of a best token's logit.

#include "engine/model_runner.h"
#include "engine/step.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace mlxs::engine;

constexpr int kWindow = 512;
constexpr int kChunk = 128;  // Whose logits are looked at together.

template <class T>
T checked(mlxs::Result<T> result) {
  if (!result) {
    fmt::print(stderr, "{}\n", result.error().message);
    std::exit(1);
  }
  return std::move(*result);
}

std::unique_ptr<Runner> load(const char* model, Compute compute) {
  ModelOptions options;
  options.source = model;
  options.compute = compute;
  options.kv_bytes = std::uint64_t{64} << 20;
  return checked(load_runner(options, {}));
}

/// What a mode says of one position.
struct Opinion {
  TokenId best = 0;
  float best_logit = 0;
  double loss = 0;  ///< Of the text's next token.
};

Opinion opinion(std::span<const float> logits, TokenId next) {
  const auto best = std::ranges::max_element(logits);
  double total = 0;
  for (const float logit : logits) total += std::exp(double{logit} - *best);
  return {static_cast<TokenId>(best - logits.begin()),
          *best,
          std::log(total) + *best - logits[static_cast<std::size_t>(next)]};
}

/// Opinions at all positions of a window but the last.
std::vector<Opinion> read(Runner& runner, std::span<const TokenId> window) {
  std::vector<Opinion> opinions;
  const int size = static_cast<int>(window.size());
  for (int done = 0; done < size - 1; done += kChunk) {
    const int count = std::min(kChunk, size - 1 - done);
    Step step;
    step.segments.push_back({0, count, done + count, {}});
    for (int i = 0; i * runner.info().block_tokens < kWindow; ++i) {
      step.segments.front().blocks.push_back(BlockId{i});
    }
    for (int i = 0; i < count; ++i) {
      step.tokens.push_back(window[static_cast<std::size_t>(done + i)]);
      step.logits_at.push_back(i);
    }
    const Logits logits = checked(runner.run(step));
    for (int i = 0; i < count; ++i) {
      opinions.push_back(opinion(logits.row(static_cast<std::size_t>(i)),
                                 window[static_cast<std::size_t>(done + i + 1)]));
    }
  }
  return opinions;
}

std::vector<TokenId> tokens_of(const Tokenizer& tokenizer, const char* file) {
  std::ifstream stream(file);
  if (!stream) {
    fmt::print(stderr, "{} cannot be read\n", file);
    std::exit(1);
  }
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  return checked(tokenizer.encode(text, false));
}

struct Totals {
  std::int64_t positions = 0;
  std::int64_t agreeing = 0;
  double loss[2] = {};
  float difference = 0;

  void add(const Opinion& reference, const Opinion& other) {
    ++positions;
    agreeing += reference.best == other.best ? 1 : 0;
    loss[0] += reference.loss;
    loss[1] += other.loss;
    difference = std::max(difference, std::abs(reference.best_logit - other.best_logit));
  }
  void print(const char* what) const {
    const auto count = static_cast<double>(positions);
    const double perplexity = std::exp(loss[0] / count);
    fmt::print(
        "{}: {} positions, {:.3f} % agree, perplexity {:.4f} in float32, {:+.3f} % in the mode; "
        "best logits differ by up to {:.4f}\n",
        what,
        positions,
        100.0 * static_cast<double>(agreeing) / count,
        perplexity,
        100.0 * (std::exp(loss[1] / count) / perplexity - 1),
        difference);
    std::fflush(stdout);
  }
};

}  // namespace

int main(int argc, char** argv) {
  const bool int8 = argc > 1 && std::string_view(argv[1]) == "--int8";
  if (int8) {
    ++argv;
    --argc;
  }
  if (argc < 4) {
    fmt::print(stderr, "usage: agreement [--int8] MODEL POSITIONS TEXTFILE...\n");
    return 2;
  }
  const int wanted = std::atoi(argv[2]);
  const int files = argc - 3;
  const int windows_of_file = (wanted + files * kWindow - 1) / (files * kWindow);
  ModelOptions options;
  options.source = argv[1];
  const ModelText text = checked(load_text(options));
  const auto reference = load(argv[1], Compute::kFloat32);
  const auto other = load(argv[1], int8 ? Compute::kInt8 : Compute::kAuto);
  Totals all;
  for (int file = 3; file < argc; ++file) {
    const std::vector<TokenId> tokens = tokens_of(*text.tokenizer, argv[file]);
    const auto step =
        std::max<std::size_t>(kWindow, tokens.size() / static_cast<std::size_t>(windows_of_file));
    Totals mine;
    for (std::size_t at = 0; at + 2 < tokens.size(); at += step) {
      const auto window =
          std::span(tokens).subspan(at, std::min<std::size_t>(kWindow, tokens.size() - at));
      const std::vector<Opinion> expected = read(*reference, window);
      const std::vector<Opinion> found = read(*other, window);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        mine.add(expected[i], found[i]);
        all.add(expected[i], found[i]);
      }
    }
    if (mine.positions > 0) mine.print(argv[file]);
  }
  if (all.positions > 0) all.print("all");
  return 0;
}
