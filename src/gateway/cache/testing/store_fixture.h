#pragma once

#include "gateway/cache/answer_store.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace mlxs::gateway {

/// An answer that is one text.
class TextAnswer : public StoredAnswer {
 public:
  explicit TextAnswer(std::string text, std::size_t bytes = 0)
      : text_(std::move(text)), bytes_(bytes == 0 ? text_.size() : bytes) {}
  [[nodiscard]] std::size_t bytes() const override { return bytes_; }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::size_t bytes_;
};

inline std::string text_of(const Hit& hit) {
  return static_cast<const TextAnswer&>(*hit.answer).text();
}

inline FingerprintPtr fingerprint_of(const std::string& canonical,
                                     const std::string& tenant = "",
                                     const std::string& model = "m") {
  return std::make_shared<const Fingerprint>(Fingerprint{
      .digest = sha256(canonical), .canonical = canonical, .tenant = tenant, .model = model});
}

}  // namespace mlxs::gateway
