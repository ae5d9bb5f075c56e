#include "worker/native_model.h"

#include "engine/model_runner.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"
#include "hub/meter.h"
#include "hub/pull.h"

#include <spdlog/spdlog.h>

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace mlxs::worker {
namespace {

// Prefix, suffix and middle as families spell them; all of them put the suffix second.
constexpr std::array<std::array<std::string_view, 3>, 5> kFillSpellings{{
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},  // Qwen2.5-Coder, CodeGemma
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},        // StarCoder
    {"<fim-prefix>", "<fim-suffix>", "<fim-middle>"},        // SantaCoder
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},  // DeepSeek-Coder
    {"▁<PRE>", "▁<SUF>", "▁<MID>"},                          // Code Llama
}};

class NativeDetokenizer final : public engine::Detokenizer {
 public:
  explicit NativeDetokenizer(const engine::Tokenizer& tokenizer) : decoder_(tokenizer) {}
  Result<std::string> push(engine::TokenId id) override { return decoder_.push(id); }
  Result<std::string> finish() override { return decoder_.finish(); }

 private:
  engine::StreamDecoder decoder_;
};

class NativeCodec final : public Codec {
 public:
  explicit NativeCodec(engine::ModelText text) : text_(std::move(text)) {}

  Result<TokenIds> encode(std::string_view text, bool add_special) const override {
    return text_.tokenizer->encode(text, add_special);
  }

  Result<std::string> decode(std::span<const engine::TokenId> ids) const override {
    return text_.tokenizer->decode(ids, false);
  }

  std::string token_bytes(engine::TokenId id) const override {
    return text_.tokenizer->token_bytes(id);
  }

  Result<std::string> render_chat(std::string_view messages_json,
                                  std::string_view tools_json,
                                  std::string_view arguments_json) const override {
    if (text_.chat_template == nullptr)
      return fail(ErrorCode::kInvalidRequest,
                  "This model has no chat template; use /v1/completions.",
                  "messages");
    const auto now = std::chrono::system_clock::now();
    return text_.chat_template->render({.messages_json = messages_json,
                                        .tools_json = tools_json,
                                        .arguments_json = arguments_json,
                                        .now = std::chrono::floor<std::chrono::seconds>(now)});
  }

  std::optional<FillTokens> fill_tokens() const override {
    for (const auto& [prefix, suffix, middle] : kFillSpellings) {
      const FillTokens tokens{.prefix = text_.tokenizer->token_id(prefix),
                              .suffix = text_.tokenizer->token_id(suffix),
                              .middle = text_.tokenizer->token_id(middle)};
      if (tokens.prefix >= 0 && tokens.suffix >= 0 && tokens.middle >= 0) return tokens;
    }
    return std::nullopt;
  }

  std::unique_ptr<engine::Detokenizer> detokenizer() const override {
    return std::make_unique<NativeDetokenizer>(*text_.tokenizer);
  }
  std::string tokenizer_digest() const override { return text_.tokenizer->digest(); }
  std::string template_digest() const override {
    return text_.chat_template == nullptr ? std::string{} : text_.chat_template->digest();
  }

 private:
  const engine::ModelText text_;
};

/// A line now and then on how far a pull is.
class PullLog {
 public:
  explicit PullLog(std::string source) : source_(std::move(source)) {}

  void note(const hub::PullProgress& progress) {
    const TimePoint now = Clock::now();
    const std::string text = meter_.text(progress, now);
    if (now < next_) return;
    spdlog::info("pulling {}: {}", source_, text);
    next_ = now + kLineEvery;
  }

 private:
  static constexpr Milliseconds kLineEvery{10'000};
  const std::string source_;
  hub::Meter meter_{Clock::now()};
  TimePoint next_ = Clock::now() + kLineEvery;
};

engine::ModelOptions model_options(const Options& options) {
  engine::ModelOptions model;
  model.source = options.source;
  model.compute = options.compute == "float32" ? engine::Compute::kFloat32
                  : options.compute == "int8"  ? engine::Compute::kInt8
                                               : engine::Compute::kAuto;
  model.context_tokens_max = options.context_tokens_max;
  model.kv_bytes = options.kv_bytes;
  model.sequences_max = options.sequences_max;
  model.step_tokens_max = options.step_tokens_max;
  if (!options.packed_folder.empty()) {
    model.packed_folder = options.packed_folder;
    model.packed_bytes_max = options.packed_bytes_max;
  }
  return model;
}

}  // namespace

ModelLoader native_model(const Options& options) {
  // What `fetch` finds is what the other two load.
  const auto model = std::make_shared<engine::ModelOptions>(model_options(options));
  ModelLoader loader;
  loader.fetch = [model, source = options.source](
                     const std::function<void(FetchProgress)>& note) -> Result<void> {
    PullLog log{source};
    auto path = hub::locate(source, [&](const hub::PullProgress& progress) {
      note({.bytes = progress.done, .bytes_total = progress.total});
      log.note(progress);
    });
    if (!path) return std::move(path).error();
    model->source = std::move(*path);
    return {};
  };
  loader.load_codec = [model]() -> Result<std::unique_ptr<Codec>> {
    auto text = engine::load_text(*model);
    if (!text) return std::move(text).error();
    return std::make_unique<NativeCodec>(std::move(*text));
  };
  loader.load_runner = [model](const LoadProgress& progress) {
    if (model->compute == engine::Compute::kInt8)
      spdlog::warn("compute is int8: on CPU some answers differ from those of float32 and auto");
    return engine::load_runner(*model, progress);
  };
  return loader;
}

}  // namespace mlxs::worker
