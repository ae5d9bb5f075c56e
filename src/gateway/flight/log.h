#pragma once

#include "api/events.h"
#include "base/error.h"
#include "gateway/loop_signal.h"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mlxs::gateway {

/// The append-only record of a flight's events, from which every answer is rendered. One writer
/// (the attempt), any number of readers, each with a position of its own: a slow reader costs an
/// offset, a late one replays from the start. Owned by one event loop; all members on its thread.
/// Text and token ids lie in two arenas, so that an event costs 16 bytes besides its content.
class Log {
 public:
  static constexpr std::size_t kBytesMax = 1U << 31;  // offsets are 32 bits wide

  /// `bytes_max` bounds what the log holds (limits.answer_bytes).
  Log(boost::asio::any_io_executor executor, std::size_t bytes_max)
      : bytes_max_(std::min(bytes_max, kBytesMax)), grown_(executor), ended_(executor) {}

  // The writer's side. Readers are woken by `publish`, `finish` and `fail` only, so that the events
  // of one read share a wake-up and, in the readers, a write.

  /// False when the delta does not fit any more; it is then not appended.
  [[nodiscard]] bool append(api::Delta&& delta);
  void set_usage(const api::Usage& usage) { usage_ = usage; }
  void publish();
  /// The answer is complete. The first of `finish` and `fail` counts.
  void finish();
  void fail(Error error);

  // A reader's side.

  [[nodiscard]] std::size_t size() const { return events_.size(); }
  /// The event at `index` into `out`, whose buffers are reused.
  void read(std::size_t index, api::Delta& out) const;
  /// Whether nothing will be appended any more.
  [[nodiscard]] bool ended() const { return ended_flag_; }
  /// Set if the log ended by `fail`.
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }
  [[nodiscard]] const api::Usage& usage() const { return usage_; }
  /// The last finish reason appended, empty before.
  [[nodiscard]] const std::string& finish_reason() const { return finish_reason_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  /// When the first and the last events were published; nothing before.
  [[nodiscard]] std::optional<TimePoint> first_event_at() const { return first_event_at_; }
  [[nodiscard]] std::optional<TimePoint> last_event_at() const { return last_event_at_; }

  /// Until events were published, the log ended, or `until`. Check before calling.
  boost::asio::awaitable<void> wait_grown(TimePoint until) { return grown_.wait(until); }
  /// Until the log ended, or `until`.
  boost::asio::awaitable<void> wait_ended(TimePoint until) { return ended_.wait(until); }

 private:
  struct Event {
    std::uint32_t text_end;  // begins where the event before ends
    std::uint32_t ids_end;
    std::int32_t choice;
    std::int32_t rest;  // index into rest_, or -1
  };
  void end();

  std::size_t bytes_max_;
  std::size_t bytes_ = 0;
  std::vector<Event> events_;
  std::string text_;
  std::vector<std::int32_t> ids_;
  std::vector<api::Delta> rest_;  // what few events have: reasoning, tool calls, logprobs, finish
  api::Usage usage_;
  std::string finish_reason_;
  bool ended_flag_ = false;
  std::optional<Error> error_;
  std::optional<TimePoint> first_event_at_;
  std::optional<TimePoint> last_event_at_;
  Signal grown_;
  Signal ended_;
};

}  // namespace mlxs::gateway
