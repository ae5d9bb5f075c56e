#include "bench/load/answer.h"

#include <charconv>
#include <optional>

namespace mlxs::bench {
namespace {

constexpr std::size_t kBeginning = 64;

/// What follows `"name":` and blanks; nothing if the member is not there.
std::optional<std::string_view> after(std::string_view data, std::string_view quoted_name) {
  const std::size_t at = data.find(quoted_name);
  if (at == std::string_view::npos) return std::nullopt;
  data.remove_prefix(at + quoted_name.size());
  const std::size_t value = data.find_first_not_of(' ');
  return value == std::string_view::npos ? std::string_view{} : data.substr(value);
}

/// The inside of a JSON string at the start of `data`; nothing if there is none.
std::optional<std::string_view> string_at(std::string_view data) {
  if (data.empty() || data.front() != '"') return std::nullopt;
  for (std::size_t i = 1; i < data.size(); ++i) {
    if (data[i] == '\\')
      ++i;
    else if (data[i] == '"')
      return data.substr(1, i - 1);
  }
  return std::nullopt;
}

int number_at(std::optional<std::string_view> data) {
  int value = 0;
  if (data) std::from_chars(data->data(), data->data() + data->size(), value);
  return value;
}

}  // namespace

bool AnswerReader::take(std::string_view data) {
  if (data == "[DONE]") {
    done_ = true;
    return false;
  }
  if (data.starts_with(R"({"error")")) failed_ = true;
  if (const auto reason = after(data, R"("finish_reason":)"); reason && string_at(*reason))
    finished_ = true;
  if (data.find(R"("usage":)") != std::string_view::npos) {
    const int prompt = number_at(after(data, R"("prompt_tokens":)"));
    if (prompt > 0) prompt_tokens_ = prompt;
    const int completion = number_at(after(data, R"("completion_tokens":)"));
    if (completion > 0) completion_tokens_ = completion;
  }
  for (const std::string_view member : {R"("content":)", R"("text":)"}) {
    const auto value = after(data, member);
    if (!value) continue;
    const auto text = string_at(*value);
    if (!text || text->empty()) continue;
    take_text(*text);
    return true;
  }
  return false;
}

void AnswerReader::take_text(std::string_view text) {
  for (const char c : text) hash_ = (hash_ ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  if (beginning_.size() < kBeginning) beginning_ += text.substr(0, kBeginning);
}

}  // namespace mlxs::bench
