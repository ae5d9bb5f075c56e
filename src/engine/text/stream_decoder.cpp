#include "base/assert.h"
#include "engine/text/rust_text.h"
#include "engine/text/tokenizer.h"
#include "engine/text/tokenizer_impl.h"

#include <mlxs_text.h>

namespace mlxs::engine {

struct StreamDecoder::Impl {
  struct Free {
    void operator()(mlxs_text_detokenizer* owned) const { mlxs_text_detokenizer_free(owned); }
  };
  std::unique_ptr<mlxs_text_detokenizer, Free> handle;
};

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer) : impl_{std::make_unique<Impl>()} {
  mlxs_text_detokenizer* handle = nullptr;
  mlxs_text_error error{};
  const bool made = mlxs_text_detokenizer_new(tokenizer.impl_->handle.get(), &handle, &error);
  MLXS_ASSERT(made);  // It has no way to fail.
  impl_->handle.reset(handle);
}

StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

Result<std::string> StreamDecoder::push(TokenId id) {
  mlxs_text_view text{};
  mlxs_text_error error{};
  if (!mlxs_text_detokenizer_push(
          impl_->handle.get(), static_cast<std::uint32_t>(id), &text, &error))
    return rust_text::take_error(error);
  return std::string{rust_text::view(text)};
}

Result<std::string> StreamDecoder::finish() {
  mlxs_text_view text{};
  mlxs_text_error error{};
  if (!mlxs_text_detokenizer_finish(impl_->handle.get(), &text, &error))
    return rust_text::take_error(error);
  return std::string{rust_text::view(text)};
}

}  // namespace mlxs::engine
