#include "worker/native_model.h"

#include "engine/model_runner.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"

#include <chrono>
#include <memory>
#include <string>
#include <utility>

namespace mlxs::worker {
namespace {

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

engine::ModelOptions model_options(const Options& options) {
  engine::ModelOptions model;
  model.source = options.source;
  model.compute = options.compute == "float32" ? engine::Compute::kFloat32 : engine::Compute::kAuto;
  model.context_tokens_max = options.context_tokens_max;
  model.kv_bytes = options.kv_bytes;
  model.sequences_max = options.sequences_max;
  return model;
}

}  // namespace

ModelLoader native_model(const Options& options) {
  ModelLoader loader;
  loader.load_codec = [model = model_options(options)]() -> Result<std::unique_ptr<Codec>> {
    auto text = engine::load_text(model);
    if (!text) return std::move(text).error();
    return std::make_unique<NativeCodec>(std::move(*text));
  };
  loader.load_runner = [model = model_options(options)](const LoadProgress& progress) {
    return engine::load_runner(model, progress);
  };
  return loader;
}

}  // namespace mlxs::worker
