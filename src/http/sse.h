#pragma once

#include "base/result.h"

#include <cstddef>
#include <string>
#include <string_view>

namespace mlxs::http {

/// Incremental reader of server-sent events (WHATWG HTML, "Server-sent events"): any split of the
/// input gives the same events; CR, LF and CRLF end lines; comments and unknown fields are skipped.
class SseReader {
 public:
  explicit SseReader(std::size_t event_bytes_max) : event_bytes_max_(event_bytes_max) {}

  struct Event {
    std::string name;  ///< `event:` field, empty if none.
    std::string data;  ///< `data:` lines joined with LF.
  };

  /// Feeds bytes; then call `next` until it yields nothing.
  void feed(std::string_view bytes);
  /// The next complete event into `event`, true; false when more bytes are needed.
  /// kWorkerProtocol when an event exceeds `event_bytes_max`.
  [[nodiscard]] Result<bool> next(Event& event);

 private:
  /// What a line may hold besides the data counted: "data: " or a field name to skip.
  static constexpr std::size_t kFieldNameRoom = 64;

  bool take_line(std::string_view& line);
  void take_field(std::string_view line);
  [[nodiscard]] Error too_large() const;

  std::size_t event_bytes_max_;
  std::string buffer_;
  std::size_t at_ = 0;       ///< Start of the line under way.
  std::size_t scanned_ = 0;  ///< No line end before here, so a long line is searched once.
  bool begun_ = false;       ///< The byte order mark has been looked for.
  bool skip_lf_ = false;
  Event pending_;
  bool has_data_ = false;
};

/// Appends "data: {data}\n\n" to `out`. `data` holds no line break (JSON never does).
void append_sse_data(std::string& out, std::string_view data);

inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";
inline constexpr std::string_view kSseKeepAlive = ": keep-alive\n\n";

}  // namespace mlxs::http
