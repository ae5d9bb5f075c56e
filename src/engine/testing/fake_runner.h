#pragma once

#include "engine/detokenizer.h"
#include "engine/runner.h"
#include "engine/types.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::engine {

inline constexpr TokenId kFakeEndToken = 256;
inline constexpr int kFakeVocabSize = 257;

/// A model for tests: ids 0..255 are bytes, 256 ends an answer. It keeps a key/value memory of its
/// own in the blocks that steps name, and computes logits from nothing else, so any mistake in
/// block tables, positions or tokens changes its answers. Unless scripted, logits are a hash of the
/// whole history that favours lower-case letters and spaces; about one token in thirty is the end.
class FakeRunner : public Runner {
 public:
  struct Options {
    int context_tokens_max = 512;
    int block_tokens = 4;
    int blocks_total = 1024;
    std::vector<KvWindow> windows = {};  ///< Named only: its memory is that of layers without one.
    /// The token after a history, instead of the hash. Must not depend on anything else.
    std::function<TokenId(std::span<const TokenId> history)> next = {};
    /// Called before each run with the number of runs before it. May block, to hold a step under
    /// way; an error fails the run, which then has no effect.
    std::function<Result<void>(std::uint64_t run, const Step& step)> before_run = {};
    /// Called on the logits of each run, to spoil them.
    std::function<void(std::uint64_t run, std::span<float> logits)> after_run = {};
  };
  explicit FakeRunner(Options options);

  [[nodiscard]] const ModelInfo& info() const override { return info_; }
  [[nodiscard]] Result<Logits> run(const Step& step) override;

  /// Logits [kFakeVocabSize] of the unscripted model after `history`.
  [[nodiscard]] static std::vector<float> logits_after(std::span<const TokenId> history);

 private:
  struct Slot {
    TokenId token = -1;
    int position = -1;
  };
  [[nodiscard]] Slot& slot(const Segment& segment, int position);

  Options options_;
  ModelInfo info_;
  std::vector<Slot> slots_;
  std::vector<float> logits_;
  std::uint64_t runs_ = 0;
};

/// Text of the fake vocabulary: bytes to UTF-8, never splitting a character; bytes that are not
/// UTF-8 become U+FFFD. The end token has no text.
[[nodiscard]] std::unique_ptr<Detokenizer> make_byte_detokenizer();

/// The fake vocabulary's ids of a text.
[[nodiscard]] std::vector<TokenId> byte_tokens(std::string_view text);

}  // namespace mlxs::engine
