#include "tests/fake_worker/byte_codec.h"

#include "base/hash.h"
#include "base/utf8.h"
#include "engine/testing/fake_runner.h"

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include <optional>
#include <string>

namespace mlxs::fake {
namespace {

namespace json = boost::json;

class ByteCodec final : public worker::Codec {
 public:
  explicit ByteCodec(bool has_template) : has_template_(has_template) {}

  Result<TokenIds> encode(std::string_view text, bool add_special) const override {
    TokenIds ids = engine::byte_tokens(text);
    if (add_special) ids.insert(ids.begin(), 1);
    return ids;
  }

  Result<std::string> decode(std::span<const engine::TokenId> ids) const override {
    std::string text;
    for (const engine::TokenId id : ids)
      if (id > 1 && id != engine::kFakeEndToken) text.push_back(static_cast<char>(id));
    if (!utf8_valid(text)) return fail(ErrorCode::kInvalidRequest, "not UTF-8", "tokens");
    return text;
  }

  std::string token_bytes(engine::TokenId id) const override {
    if (id == engine::kFakeEndToken) return "<end>";
    return id < 0 || id > 255 ? std::string{} : std::string(1, static_cast<char>(id));
  }

  Result<std::string> render_chat(std::string_view messages_json,
                                  std::string_view,
                                  std::string_view arguments_json) const override {
    if (!has_template_)
      return fail(ErrorCode::kInvalidRequest, "The model has no chat template.", "messages");
    std::string prompt{arguments_json};
    const json::value messages = json::parse(messages_json);
    for (const json::value& message : messages.get_array()) {
      prompt += message.at("role").as_string();
      prompt += ": ";
      if (const json::value* content = message.get_object().if_contains("content"))
        prompt += content->as_string();
      prompt += '\n';
    }
    return prompt + "assistant: ";
  }

  std::optional<FillTokens> fill_tokens() const override {
    if (!has_template_) return std::nullopt;
    return FillTokens{.prefix = 2, .suffix = 3, .middle = 4};
  }

  std::unique_ptr<engine::Detokenizer> detokenizer() const override {
    return engine::make_byte_detokenizer();
  }
  std::string tokenizer_digest() const override { return to_hex(sha256("bytes")); }
  std::string template_digest() const override {
    return has_template_ ? to_hex(sha256("role: content")) : std::string{};
  }

 private:
  const bool has_template_;
};

}  // namespace

std::unique_ptr<worker::Codec> make_byte_codec(bool has_template) {
  return std::make_unique<ByteCodec>(has_template);
}

}  // namespace mlxs::fake
