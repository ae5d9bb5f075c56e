#pragma once

#include "api/events.h"
#include "api/render.h"
#include "base/deadline.h"
#include "base/error.h"
#include "gateway/cache/answer_store.h"

#include <boost/asio/io_context.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace mlxs::gateway {

class LogWatch;

/// A reader's position in a log. Made by value-initialisation: before the first event.
struct LogCursor {
  std::size_t index = 0;  ///< Of the event that is read next.
  const void* segment = nullptr;
  std::size_t offset = 0;
};

/// The append-only record of a flight's events, from which every answer is rendered. One writer
/// (the attempt, on the flight's loop), any number of readers on any loop, each with a cursor of
/// its own: a slow reader costs an offset, a late one replays from the start. Readers take no lock:
/// events lie in segments that never move, and `size` publishes how many of them are complete.
///
/// An ended log is immutable and is itself what a cache keeps: see `sealed`.
class Log final : public StoredAnswer {
 public:
  static constexpr std::size_t kBytesMax = 1U << 31;

  /// `head` is what all answers rendered from this log have in common; `bytes_max` bounds what the
  /// events may take (limits.answer_bytes).
  Log(api::AnswerHead head, std::size_t bytes_max);
  ~Log() override;
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // The writer's side. Readers see events, and are woken, by `publish`, `finish` and `fail` only,
  // so that the events of one read share a wake-up and, in the readers, a write.

  /// False when the delta does not fit any more; it is then not appended.
  [[nodiscard]] bool append(api::Delta&& delta);
  void set_usage(const api::Usage& usage) { usage_ = usage; }
  void publish();
  /// The answer is complete. The first of `finish` and `fail` counts.
  void finish();
  void fail(Error error, std::optional<int> retry_after_s = std::nullopt);
  /// Whether what was appended is an answer worth keeping: `choices` of them at least, and each
  /// ended with `stop`, `length` or `tool_calls`.
  [[nodiscard]] bool complete(std::size_t choices) const;
  /// A copy of what was published as `finish` would leave it, in one piece of memory of just its
  /// size.
  [[nodiscard]] std::shared_ptr<const Log> sealed() const;

  // Any thread, at any time.

  [[nodiscard]] const api::AnswerHead& head() const { return head_; }
  /// Published events.
  [[nodiscard]] std::size_t size() const { return size_.load(std::memory_order_acquire); }
  /// Whether nothing will be appended any more. Once true, `size` is final.
  [[nodiscard]] bool ended() const { return ended_.load(std::memory_order_acquire); }
  /// What the log takes in memory, about; exact to a few percent for a sealed one.
  [[nodiscard]] std::size_t bytes() const override {
    return memory_.load(std::memory_order_relaxed);
  }
  /// When the first and the last events were published; nothing before.
  [[nodiscard]] std::optional<TimePoint> first_event_at() const;
  [[nodiscard]] std::optional<TimePoint> last_event_at() const;
  /// The event at `cursor`, which must be before `size`, into `out`, whose buffers are reused;
  /// moves the cursor on.
  void read(LogCursor& cursor, api::Delta& out) const;
  /// How readers on `loop` wait for more; one for the log and loop. To be asked for on that loop.
  [[nodiscard]] std::shared_ptr<LogWatch> watch(boost::asio::io_context& loop) const;

  // The writer, and once `ended` has been seen true any thread.

  /// Set if the log ended by `fail`.
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }
  /// With an error that asks for a retry later.
  [[nodiscard]] std::optional<int> retry_after_s() const { return retry_after_s_; }
  [[nodiscard]] const api::Usage& usage() const { return usage_; }
  /// The last finish reason appended, empty before.
  [[nodiscard]] const std::string& finish_reason() const { return finish_reason_; }

 private:
  struct Segment;
  // Before an event's ids and text. All of it, padded to 8 bytes, lies in one segment.
  struct Record {
    const api::Delta* rest;  // what few events have: reasoning, tool calls, logprobs, finish
    std::uint32_t text_bytes;
    std::uint32_t ids;
    std::int32_t choice;
    std::uint32_t bytes;  // of the record, ids, text and padding
  };
  [[nodiscard]] std::byte* room_for(std::size_t bytes);
  Segment* add_segment(std::size_t capacity);
  void end();
  void wake(bool ended);

  const api::AnswerHead head_;
  const std::size_t bytes_max_;
  // Writer's.
  std::size_t bytes_ = 0;  // of the events
  std::size_t appended_ = 0;
  Segment* last_ = nullptr;
  std::deque<api::Delta> rest_;      // its elements never move
  std::vector<bool> choices_ended_;  // well, by index
  // Published by `ended_`.
  api::Usage usage_;
  std::string finish_reason_;
  std::optional<Error> error_;
  std::optional<int> retry_after_s_;
  // Shared.
  std::atomic<Segment*> first_{nullptr};
  std::atomic<std::size_t> size_{0};
  std::atomic<std::size_t> memory_;
  std::atomic<bool> ended_{false};
  std::atomic<Clock::rep> first_event_at_{0};
  std::atomic<Clock::rep> last_event_at_{0};
  mutable std::mutex watches_mutex_;
  mutable std::vector<std::shared_ptr<LogWatch>> watches_;  // one a loop; empty once ended
};

}  // namespace mlxs::gateway
