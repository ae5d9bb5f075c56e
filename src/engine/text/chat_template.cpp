#include "engine/text/chat_template.h"

#include "base/hash.h"
#include "engine/text/rust_text.h"

#include <mlxs_text.h>

#include <utility>

namespace mlxs::engine {

struct ChatTemplate::Impl {
  struct Free {
    void operator()(mlxs_text_template* owned) const { mlxs_text_template_free(owned); }
  };
  std::unique_ptr<mlxs_text_template, Free> handle;
  std::string digest;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
ChatTemplate::~ChatTemplate() = default;

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::compile(std::string source,
                                                            std::string bos_token,
                                                            std::string eos_token) {
  mlxs_text_template* handle = nullptr;
  mlxs_text_error error{};
  if (!mlxs_text_template_compile(rust_text::view(source),
                                  rust_text::view(bos_token),
                                  rust_text::view(eos_token),
                                  &handle,
                                  &error))
    return rust_text::take_error(error, "[chat template] ");
  auto impl = std::make_unique<Impl>();
  impl->handle.reset(handle);
  impl->digest = to_hex(sha256(source));
  return std::unique_ptr<ChatTemplate>{new ChatTemplate{std::move(impl)}};
}

Result<std::string> ChatTemplate::render(const Input& input) const {
  mlxs_text_string text{};
  mlxs_text_error error{};
  if (!mlxs_text_template_render(impl_->handle.get(),
                                 rust_text::view(input.messages_json),
                                 rust_text::view(input.tools_json),
                                 rust_text::view(input.arguments_json),
                                 input.add_generation_prompt,
                                 input.now.time_since_epoch().count(),
                                 &text,
                                 &error))
    return rust_text::take_error(error, {}, "messages");
  return rust_text::take(text);
}

const std::string& ChatTemplate::digest() const { return impl_->digest; }

}  // namespace mlxs::engine
