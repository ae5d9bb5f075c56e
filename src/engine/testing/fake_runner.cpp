#include "engine/testing/fake_runner.h"

#include "base/assert.h"
#include "base/utf8.h"

#include <string_view>
#include <utility>

namespace mlxs::engine {
namespace {

std::uint64_t mix(std::uint64_t x) {  // splitmix64
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

class ByteDetokenizer final : public Detokenizer {
 public:
  Result<std::string> push(TokenId id) override {
    if (id == kFakeEndToken) return std::string{};
    if (id < 0 || id > 255) return fail(ErrorCode::kInvalidRequest, "no such token");
    held_.push_back(static_cast<char>(id));
    const std::size_t complete = utf8_complete_prefix(held_);
    std::string piece = held_.substr(0, complete);
    held_.erase(0, complete);
    return utf8_valid(piece) ? piece : std::string{"\xEF\xBF\xBD"};
  }
  Result<std::string> finish() override {
    return std::exchange(held_, {}).empty() ? std::string{} : std::string{"\xEF\xBF\xBD"};
  }

 private:
  std::string held_;
};

}  // namespace

FakeRunner::FakeRunner(Options options) : options_{std::move(options)} {
  info_.architecture = "fake";
  info_.vocab_size = kFakeVocabSize;
  info_.context_tokens_max = options_.context_tokens_max;
  info_.block_tokens = options_.block_tokens;
  info_.blocks_total = options_.blocks_total;
  info_.windows = options_.windows;
  info_.end_tokens = {kFakeEndToken};
  info_.weights_digest = std::string(64, '0');
  slots_.resize(static_cast<std::size_t>(options_.blocks_total) *
                static_cast<std::size_t>(options_.block_tokens));
}

std::vector<float> FakeRunner::logits_after(std::span<const TokenId> history) {
  std::uint64_t hash = 0;
  for (const TokenId token : history) hash = mix(hash ^ static_cast<std::uint64_t>(token));
  std::vector<float> logits(kFakeVocabSize);
  for (int id = 0; id < kFakeVocabSize; ++id) {
    const bool likely = id == ' ' || (id >= 'a' && id <= 'z') || id == kFakeEndToken;
    const auto noise = static_cast<float>(mix(hash + static_cast<std::uint64_t>(id)) >> 40);
    logits[static_cast<std::size_t>(id)] = noise * 0x1p-22f + (likely ? 8.0f : 0.0f);
  }
  return logits;
}

Result<Logits> FakeRunner::run(const Step& step) {
  const std::uint64_t run = runs_++;
  if (options_.before_run)
    if (auto allowed = options_.before_run(run, step); !allowed) return allowed.error();

  for (const Segment& segment : step.segments)
    for (int k = 0; k < segment.q_len; ++k) {
      const int position = segment.kv_len - segment.q_len + k;
      slot(segment, position) = {step.tokens.at(static_cast<std::size_t>(segment.q_start + k)),
                                 position};
    }

  logits_.clear();
  std::size_t wanted = 0;
  for (const Segment& segment : step.segments) {
    for (;
         wanted < step.logits_at.size() && step.logits_at[wanted] < segment.q_start + segment.q_len;
         ++wanted) {
      std::vector<TokenId> history;
      const int last = segment.kv_len - (segment.q_start + segment.q_len - step.logits_at[wanted]);
      for (int position = 0; position <= last; ++position) {
        const Slot& stored = slot(segment, position);
        MLXS_ASSERT(stored.position == position);
        history.push_back(stored.token);
      }
      std::vector<float> row;
      if (options_.next) {
        row.assign(kFakeVocabSize, 0.0f);
        row.at(static_cast<std::size_t>(options_.next(history))) = 100.0f;
      } else {
        row = logits_after(history);
      }
      logits_.insert(logits_.end(), row.begin(), row.end());
    }
  }
  MLXS_ASSERT(wanted == step.logits_at.size());
  if (options_.after_run) options_.after_run(run, logits_);
  return Logits{.values = logits_, .vocab_size = kFakeVocabSize};
}

FakeRunner::Slot& FakeRunner::slot(const Segment& segment, int position) {
  const auto block = segment.blocks.at(static_cast<std::size_t>(position / options_.block_tokens));
  return slots_.at(static_cast<std::size_t>(block) *
                       static_cast<std::size_t>(options_.block_tokens) +
                   static_cast<std::size_t>(position % options_.block_tokens));
}

std::unique_ptr<Detokenizer> make_byte_detokenizer() { return std::make_unique<ByteDetokenizer>(); }

std::vector<TokenId> byte_tokens(std::string_view text) {
  std::vector<TokenId> ids;
  for (const char byte : text) ids.push_back(static_cast<unsigned char>(byte));
  return ids;
}

}  // namespace mlxs::engine
