#include "engine/text/tokenizer.h"

#include "base/assert.h"
#include "base/hash.h"
#include "engine/text/rust_text.h"
#include "engine/text/tokenizer_impl.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>

namespace mlxs::engine {
namespace {

Result<std::string> read_file(const std::filesystem::path& path) {
  std::ifstream file{path, std::ios::binary};
  if (!file)
    return fail(ErrorCode::kCorruptFile, "[tokenizer] " + path.string() + ": cannot be opened");
  std::string content{std::istreambuf_iterator<char>{file}, std::istreambuf_iterator<char>{}};
  if (file.bad())
    return fail(ErrorCode::kCorruptFile, "[tokenizer] " + path.string() + ": cannot be read");
  return content;
}

std::vector<mlxs_text_view> views(const std::vector<std::string>& strings) {
  std::vector<mlxs_text_view> out(strings.size());
  std::ranges::transform(
      strings, out.begin(), [](const std::string& text) { return rust_text::view(text); });
  return out;
}

}  // namespace

Result<std::unique_ptr<Tokenizer::Impl>> Tokenizer::Impl::own(mlxs_text_tokenizer* handle) {
  auto impl = std::make_unique<Impl>();
  impl->handle.reset(handle);
  mlxs_text_string json{};
  mlxs_text_error error{};
  if (!mlxs_text_tokenizer_json(handle, &json, &error)) return rust_text::take_error(error);
  impl->digest = to_hex(sha256({json.data, json.size}));
  mlxs_text_string_free(json);
  return impl;
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_file(const std::filesystem::path& path) {
  const auto content = read_file(path);
  if (!content) return content.error();

  mlxs_text_tokenizer* handle = nullptr;
  mlxs_text_error error{};
  if (!mlxs_text_tokenizer_from_json(rust_text::view(*content), &handle, &error))
    return rust_text::take_error(error, "[tokenizer] " + path.string() + ": ");
  auto impl = Impl::own(handle);
  if (!impl) return std::move(impl).error();
  return std::unique_ptr<Tokenizer>{new Tokenizer{*std::move(impl)}};
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_gguf(const GgufVocabulary& vocabulary) {
  const auto tokens = views(vocabulary.tokens);
  const auto merges = views(vocabulary.merges);
  const mlxs_text_gguf_vocabulary given{
      .model = rust_text::view(vocabulary.model),
      .pre = rust_text::view(vocabulary.pre),
      .tokens = tokens.data(),
      .tokens_count = tokens.size(),
      .token_types = vocabulary.token_types.data(),
      .token_types_count = vocabulary.token_types.size(),
      .merges = merges.data(),
      .merges_count = merges.size(),
      .bos = vocabulary.bos,
      .add_bos = vocabulary.add_bos ? static_cast<std::int32_t>(*vocabulary.add_bos) : -1,
  };

  mlxs_text_tokenizer* handle = nullptr;
  mlxs_text_error error{};
  if (!mlxs_text_tokenizer_from_gguf(&given, &handle, &error))
    return rust_text::take_error(error, "[tokenizer] ");
  auto impl = Impl::own(handle);
  if (!impl) return std::move(impl).error();
  return std::unique_ptr<Tokenizer>{new Tokenizer{*std::move(impl)}};
}

Result<std::vector<TokenId>> Tokenizer::encode(std::string_view text,
                                               bool add_special_tokens) const {
  mlxs_text_ids ids{};
  mlxs_text_error error{};
  if (!mlxs_text_tokenizer_encode(
          impl_->handle.get(), rust_text::view(text), add_special_tokens, &ids, &error))
    return rust_text::take_error(error);
  std::vector<TokenId> out(ids.data, ids.data + ids.size);
  mlxs_text_ids_free(ids);
  return out;
}

Result<std::string> Tokenizer::decode(std::span<const TokenId> ids,
                                      bool skip_special_tokens) const {
  // A negative id becomes one above every vocabulary.
  const std::vector<std::uint32_t> unsigned_ids(ids.begin(), ids.end());
  mlxs_text_string text{};
  mlxs_text_error error{};
  if (!mlxs_text_tokenizer_decode(impl_->handle.get(),
                                  unsigned_ids.data(),
                                  unsigned_ids.size(),
                                  skip_special_tokens,
                                  &text,
                                  &error))
    return rust_text::take_error(error);
  return rust_text::take(text);
}

int Tokenizer::vocab_size() const {
  return static_cast<int>(mlxs_text_tokenizer_vocab_size(impl_->handle.get()));
}

TokenId Tokenizer::token_id(std::string_view token) const {
  std::int32_t id = -1;
  mlxs_text_error error{};
  const bool found =
      mlxs_text_tokenizer_token_id(impl_->handle.get(), rust_text::view(token), &id, &error);
  MLXS_ASSERT(found);  // It has no way to fail.
  return id;
}

std::string Tokenizer::token_bytes(TokenId id) const {
  mlxs_text_string bytes{};
  mlxs_text_error error{};
  const bool found = mlxs_text_tokenizer_token_bytes(
      impl_->handle.get(), static_cast<std::uint32_t>(id), &bytes, &error);
  MLXS_ASSERT(found);  // It has no way to fail.
  return rust_text::take(bytes);
}

const std::string& Tokenizer::digest() const { return impl_->digest; }

}  // namespace mlxs::engine
