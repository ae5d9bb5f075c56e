#include "worker/logprobs.h"

#include "base/utf8.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace mlxs::worker {
namespace {

namespace json = boost::json;

// JSON has no minus infinity; what OpenAI sends for a token that cannot come.
constexpr double kLeastLogprob = -9999;

json::value number(float logprob) { return std::max(kLeastLogprob, static_cast<double>(logprob)); }

json::array bytes_of(std::string_view text) {
  json::array bytes;
  for (const char byte : text) bytes.emplace_back(static_cast<unsigned char>(byte));
  return bytes;
}

std::size_t characters_in(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char byte) { return (byte & 0xC0) != 0x80; }));
}

/// Of a token of the answer. A token that is skipped in text, such as an ignored end token, has
/// none.
std::string own_bytes(const Codec& codec, const engine::TokenLogprob& token) {
  if (token.cut) return token.text;
  std::string bytes = codec.token_bytes(token.token);
  if (token.text.empty() && utf8_valid(bytes)) bytes.clear();
  return bytes;
}

}  // namespace

std::string LogprobWriter::shown(std::string_view bytes) const {
  if (utf8_valid(bytes)) return std::string{bytes};
  std::string text = surface_ == api::Surface::kChat ? "" : "bytes:";
  for (const char byte : bytes) text += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return text;
}

void LogprobWriter::skip(std::string_view text) { characters_ += characters_in(text); }

json::value LogprobWriter::write_chat(std::span<const engine::TokenLogprob> tokens) const {
  json::array content;
  for (const engine::TokenLogprob& token : tokens) {
    json::array top;
    for (const engine::TopLogprob& other : token.top) {
      const std::string bytes = codec_->token_bytes(other.token);
      top.push_back(json::object{
          {"token", shown(bytes)}, {"logprob", number(other.logprob)}, {"bytes", bytes_of(bytes)}});
    }
    content.push_back(json::object{{"token", token.text},
                                   {"logprob", number(token.logprob)},
                                   {"bytes", bytes_of(own_bytes(*codec_, token))},
                                   {"top_logprobs", std::move(top)}});
  }
  return json::object{{"content", std::move(content)}, {"refusal", nullptr}};
}

json::value LogprobWriter::write(std::span<const engine::TokenLogprob> tokens) {
  if (tokens.empty()) return nullptr;
  if (surface_ == api::Surface::kChat) return write_chat(tokens);
  json::array texts;
  json::array logprobs;
  json::array tops;
  json::array offsets;
  for (const engine::TokenLogprob& token : tokens) {
    texts.emplace_back(token.text);
    logprobs.push_back(number(token.logprob));
    offsets.emplace_back(characters_);
    characters_ += characters_in(token.text);
    json::object top;
    for (const engine::TopLogprob& other : token.top)
      top.emplace(shown(codec_->token_bytes(other.token)), number(other.logprob));
    top.emplace(shown(codec_->token_bytes(token.token)), number(token.logprob));
    tops.push_back(std::move(top));
  }
  return json::object{{"tokens", std::move(texts)},
                      {"token_logprobs", std::move(logprobs)},
                      {"top_logprobs", std::move(tops)},
                      {"text_offset", std::move(offsets)}};
}

json::value LogprobWriter::write_prompt(std::span<const engine::TokenId> prompt,
                                        std::span<const std::string> texts,
                                        std::span<const engine::TokenLogprob> tokens) {
  std::vector<engine::TokenLogprob> all{{.token = prompt.front()}};
  all.insert(all.end(), tokens.begin(), tokens.end());
  for (std::size_t k = 0; k < all.size(); ++k) all[k].text = texts[k];
  json::value written = write(all);
  written.at("token_logprobs").get_array().front() = nullptr;
  written.at("top_logprobs").get_array().front() = nullptr;
  return written;
}

std::vector<std::string> prompt_texts(const Codec& codec,
                                      std::span<const engine::TokenId> prompt,
                                      std::string_view echo) {
  std::vector<std::string> texts;
  std::size_t size = 0;
  for (const engine::TokenId token : prompt) {
    texts.push_back(codec.token_bytes(token));
    size += texts.back().size();
  }
  // Tokens before the text, or a space that a tokenizer puts there.
  std::size_t before = size - std::min(size, echo.size());
  std::string partial;  // of a character
  for (std::string& text : texts) {
    const std::size_t dropped = std::min(before, text.size());
    before -= dropped;
    partial += std::string_view{text}.substr(dropped);
    const std::size_t complete = utf8_complete_prefix(partial);
    text = partial.substr(0, complete);
    partial.erase(0, complete);
    if (!utf8_valid(text)) text = "\xEF\xBF\xBD";
  }
  return texts;
}

}  // namespace mlxs::worker
