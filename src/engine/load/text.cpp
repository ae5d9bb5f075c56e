#include "engine/load/checkpoint.h"
#include "engine/load/config_reader.h"
#include "engine/load/gguf.h"
#include "engine/load/mapped_file.h"
#include "engine/model_runner.h"

#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlxs::engine {
namespace {

constexpr std::size_t kTemplateBytesMax = std::size_t{4} << 20;
constexpr std::size_t kConfigBytesMax = std::size_t{64} << 20;  // added_tokens_decoder is long.

Result<GgufVocabulary> gguf_vocabulary(const Gguf& gguf, const std::string& file) {
  const auto missing = [&file](std::string_view key) {
    return fail(ErrorCode::kCorruptFile,
                fmt::format("[gguf] {}: '{}' is missing or of another type", file, key));
  };
  GgufVocabulary vocabulary;
  const auto model = gguf.string("tokenizer.ggml.model");
  if (!model) return missing("tokenizer.ggml.model");
  auto tokens = gguf.strings("tokenizer.ggml.tokens");
  if (!tokens) return missing("tokenizer.ggml.tokens");
  vocabulary.model = *model;
  vocabulary.pre = gguf.string("tokenizer.ggml.pre").value_or("");
  vocabulary.tokens = std::move(*tokens);
  vocabulary.token_types =
      gguf.integers("tokenizer.ggml.token_type").value_or(std::vector<std::int32_t>{});
  vocabulary.merges = gguf.strings("tokenizer.ggml.merges").value_or(std::vector<std::string>{});
  vocabulary.scores = gguf.floats("tokenizer.ggml.scores").value_or(std::vector<float>{});
  const auto token = [&](std::string_view key) {
    const auto id = gguf.integer(key);
    const bool known = id && *id >= 0 && *id < std::ssize(vocabulary.tokens);
    return known ? static_cast<TokenId>(*id) : TokenId{-1};
  };
  vocabulary.bos = token("tokenizer.ggml.bos_token_id");
  vocabulary.eos = token("tokenizer.ggml.eos_token_id");
  vocabulary.add_bos = gguf.boolean("tokenizer.ggml.add_bos_token");
  vocabulary.add_space_prefix = gguf.boolean("tokenizer.ggml.add_space_prefix").value_or(true);
  return vocabulary;
}

Result<ModelText> gguf_text(const std::filesystem::path& path) {
  auto file = MappedFile::open(path);
  if (!file) return file.error();
  auto gguf = Gguf::parse(file->bytes(), path.string());
  if (!gguf) return gguf.error();
  auto vocabulary = gguf_vocabulary(*gguf, path.string());
  if (!vocabulary) return vocabulary.error();
  auto tokenizer = Tokenizer::from_gguf(*vocabulary);
  if (!tokenizer) return tokenizer.error();
  ModelText text{.tokenizer = std::move(*tokenizer), .chat_template = nullptr};

  const auto source = gguf->string("tokenizer.chat_template");
  if (!source) return text;
  const auto spelling = [&](TokenId id) {
    return id < 0 ? std::string() : vocabulary->tokens[static_cast<std::size_t>(id)];
  };
  auto chat_template = ChatTemplate::compile(
      std::string(*source), spelling(vocabulary->bos), spelling(vocabulary->eos));
  if (!chat_template) return chat_template.error();
  text.chat_template = std::move(*chat_template);
  return text;
}

/// A special token, spelled as a string or as an object with `content`.
std::string special_token(const boost::json::object& config, std::string_view key) {
  const auto* value = config.if_contains(key);
  if (value != nullptr && value->is_object()) value = value->get_object().if_contains("content");
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

/// `chat_template`: one template, or a list of named ones of which the default is taken.
std::string configured_template(const boost::json::object& config) {
  const auto* value = config.if_contains("chat_template");
  if (value == nullptr) return {};
  if (value->is_string()) return std::string(value->get_string());
  if (!value->is_array()) return {};
  for (const auto& entry : value->get_array()) {
    if (entry.is_object() && special_token(entry.get_object(), "name") == "default") {
      return special_token(entry.get_object(), "template");
    }
  }
  return {};
}

Result<ModelText> folder_text(const std::filesystem::path& folder) {
  auto tokenizer = Tokenizer::from_file(folder / "tokenizer.json");
  if (!tokenizer) return tokenizer.error();
  ModelText text{.tokenizer = std::move(*tokenizer), .chat_template = nullptr};

  boost::json::object config;
  if (const auto path = folder / "tokenizer_config.json"; std::filesystem::exists(path)) {
    auto json = read_small_file(path, kConfigBytesMax);
    if (!json) return json.error();
    auto parsed = parse_json_object(*json, path.string());
    if (!parsed) return parsed.error();
    config = std::move(*parsed);
  }
  std::string source = configured_template(config);
  if (const auto path = folder / "chat_template.jinja"; std::filesystem::exists(path)) {
    auto jinja = read_small_file(path, kTemplateBytesMax);
    if (!jinja) return jinja.error();
    source = std::move(*jinja);
  }
  if (source.empty()) return text;
  auto chat_template = ChatTemplate::compile(
      std::move(source), special_token(config, "bos_token"), special_token(config, "eos_token"));
  if (!chat_template) return chat_template.error();
  text.chat_template = std::move(*chat_template);
  return text;
}

}  // namespace

Result<ModelText> load_text(const ModelOptions& options) {
  return is_gguf_source(options.source) ? gguf_text(options.source) : folder_text(options.source);
}

}  // namespace mlxs::engine
