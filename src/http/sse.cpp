#include "http/sse.h"

#include "base/assert.h"

#include <utility>

namespace mlxs::http {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

void SseReader::feed(std::string_view bytes) {
  // Consumed bytes go only when more arrive: one move a read instead of one a line.
  buffer_.erase(0, at_);
  scanned_ -= at_;
  at_ = 0;
  buffer_.append(bytes);
}

Result<bool> SseReader::next(Event& event) {
  if (!begun_) {
    const std::string_view seen = std::string_view{buffer_}.substr(0, kByteOrderMark.size());
    if (seen.size() < kByteOrderMark.size() && kByteOrderMark.starts_with(seen)) return false;
    if (seen == kByteOrderMark) at_ = scanned_ = kByteOrderMark.size();
    begun_ = true;
  }
  std::string_view line;
  while (take_line(line)) {
    if (!line.empty()) {
      take_field(line);
      if (pending_.data.size() + pending_.name.size() > event_bytes_max_) return too_large();
      continue;
    }
    // An event without data is not dispatched, its name is forgotten.
    const bool complete = std::exchange(has_data_, false);
    Event done = std::exchange(pending_, {});
    if (!complete) continue;
    event = std::move(done);
    return true;
  }
  if (buffer_.size() - at_ + pending_.data.size() > event_bytes_max_ + kFieldNameRoom) {
    return too_large();
  }
  return false;
}

Error SseReader::too_large() const {
  return fail(ErrorCode::kWorkerProtocol,
              "[sse] expected events of at most " + std::to_string(event_bytes_max_) +
                  " bytes, came a larger one");
}

bool SseReader::take_line(std::string_view& line) {
  // The LF of a CRLF may come after the CR has already ended the line.
  if (skip_lf_ && at_ < buffer_.size()) {
    if (buffer_[at_] == '\n') ++at_;
    skip_lf_ = false;
  }
  if (scanned_ < at_) scanned_ = at_;
  const std::size_t end = buffer_.find_first_of("\r\n", scanned_);
  if (end == std::string::npos) {
    scanned_ = buffer_.size();
    return false;
  }
  line = std::string_view{buffer_}.substr(at_, end - at_);
  skip_lf_ = buffer_[end] == '\r';
  at_ = scanned_ = end + 1;
  return true;
}

void SseReader::take_field(std::string_view line) {
  const std::size_t colon = line.find(':');
  const std::string_view name = line.substr(0, colon);
  std::string_view value;
  if (colon != std::string_view::npos) value = line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (name == "data") {
    if (has_data_) pending_.data += '\n';
    pending_.data += value;
    has_data_ = true;
  } else if (name == "event") {
    pending_.name = value;
  }
}

void append_sse_data(std::string& out, std::string_view data) {
  MLXS_ASSERT(data.find_first_of("\r\n") == std::string_view::npos);
  out += "data: ";
  out += data;
  out += "\n\n";
}

}  // namespace mlxs::http
