#include "gateway/flight/log.h"

#include "base/assert.h"
#include "gateway/flight/log_watch.h"

#include <boost/json/serialize.hpp>

#include <algorithm>
#include <cstring>
#include <functional>
#include <new>
#include <utility>

namespace mlxs::gateway {
namespace {

// Small, since most answers are; then larger, so that long ones need few.
constexpr std::size_t kFirstSegment = 1024;
constexpr std::size_t kLargestSegment = 16 * 1024;
constexpr std::size_t kChoicesMax = 1024;

bool has_rest(const api::Delta& delta) {
  return !delta.reasoning.empty() || !delta.tool_calls.empty() || !delta.logprobs.is_null() ||
         !delta.finish_reason.empty();
}

// What the rare parts weigh. Their wire size stands for their size in memory, which is within a
// small factor of it.
std::size_t rest_bytes(const api::Delta& delta) {
  std::size_t bytes = sizeof(api::Delta) + delta.reasoning.size();
  if (!delta.tool_calls.empty()) bytes += boost::json::serialize(delta.tool_calls).size();
  if (!delta.logprobs.is_null()) bytes += boost::json::serialize(delta.logprobs).size();
  return bytes;
}

bool ends_well(const std::string& reason) {
  return reason == "stop" || reason == "length" || reason == "tool_calls";
}

constexpr std::size_t padded(std::size_t bytes) { return (bytes + 7) / 8 * 8; }

std::optional<TimePoint> time_of(Clock::rep ticks) {
  if (ticks == 0) return std::nullopt;
  return TimePoint{Clock::duration{ticks}};
}

}  // namespace

// Memory for records follows the segment. `first_index` is written before `next` makes the segment
// visible; `used` is the writer's alone.
struct alignas(8) Log::Segment {
  std::size_t first_index = 0;
  std::atomic<Segment*> next{nullptr};
  std::size_t capacity = 0;
  std::size_t used = 0;

  [[nodiscard]] std::byte* data() { return reinterpret_cast<std::byte*>(this + 1); }
  [[nodiscard]] const std::byte* data() const {
    return reinterpret_cast<const std::byte*>(this + 1);
  }
};

Log::Log(api::AnswerHead head, std::size_t bytes_max)
    : head_(std::move(head)),
      bytes_max_(std::min(bytes_max, kBytesMax)),
      memory_(sizeof(Log) + head_.id.capacity() + head_.model.capacity()) {}

Log::~Log() {
  for (Segment* segment = first_.load(std::memory_order_relaxed); segment != nullptr;) {
    Segment* next = segment->next.load(std::memory_order_relaxed);
    segment->~Segment();
    ::operator delete(segment);
    segment = next;
  }
}

Log::Segment* Log::add_segment(std::size_t capacity) {
  auto* segment = new (::operator new(sizeof(Segment) + capacity)) Segment;
  segment->capacity = capacity;
  segment->first_index = appended_;
  memory_.fetch_add(sizeof(Segment) + capacity, std::memory_order_relaxed);
  (last_ == nullptr ? first_ : last_->next).store(segment, std::memory_order_release);
  return last_ = segment;
}

std::byte* Log::room_for(std::size_t bytes) {
  if (last_ == nullptr || last_->capacity - last_->used < bytes) {
    const std::size_t usual =
        last_ == nullptr ? kFirstSegment : std::min(2 * last_->capacity, kLargestSegment);
    add_segment(std::max(usual, bytes));
  }
  std::byte* room = last_->data() + last_->used;
  last_->used += bytes;
  return room;
}

bool Log::append(api::Delta&& delta) {
  MLXS_ASSERT(!ended());
  const bool rest = has_rest(delta);
  const std::size_t ids_bytes = delta.token_ids.size() * sizeof(std::int32_t);
  const std::size_t bytes = padded(sizeof(Record) + ids_bytes + delta.text.size());
  const std::size_t more = rest ? rest_bytes(delta) : 0;
  if (bytes + more > bytes_max_ - bytes_) return false;
  bytes_ += bytes + more;
  std::byte* room = room_for(bytes);
  std::byte* ids_at = room + sizeof(Record);
  if (ids_bytes > 0) std::memcpy(ids_at, delta.token_ids.data(), ids_bytes);
  if (!delta.text.empty()) std::memcpy(ids_at + ids_bytes, delta.text.data(), delta.text.size());
  const auto index = static_cast<std::size_t>(delta.choice);
  if (choices_ended_.size() <= index && index < kChoicesMax) choices_ended_.resize(index + 1);
  Record record{.rest = nullptr,
                .text_bytes = static_cast<std::uint32_t>(delta.text.size()),
                .ids = static_cast<std::uint32_t>(delta.token_ids.size()),
                .choice = delta.choice,
                .bytes = static_cast<std::uint32_t>(bytes)};
  if (rest) {
    if (!delta.finish_reason.empty()) {
      finish_reason_ = delta.finish_reason;
      if (index < choices_ended_.size()) choices_ended_[index] = ends_well(finish_reason_);
    }
    delta.text = {};
    delta.token_ids = {};
    rest_.push_back(std::move(delta));
    record.rest = &rest_.back();
    memory_.fetch_add(more, std::memory_order_relaxed);
  }
  std::memcpy(room, &record, sizeof(record));
  ++appended_;
  return true;
}

void Log::publish() {
  if (appended_ == size_.load(std::memory_order_relaxed)) return;
  const Clock::rep now = Clock::now().time_since_epoch().count();
  last_event_at_.store(now, std::memory_order_relaxed);
  if (first_event_at_.load(std::memory_order_relaxed) == 0)
    first_event_at_.store(now, std::memory_order_relaxed);
  size_.store(appended_, std::memory_order_release);
  wake(false);
}

std::optional<TimePoint> Log::first_event_at() const {
  return time_of(first_event_at_.load(std::memory_order_relaxed));
}

std::optional<TimePoint> Log::last_event_at() const {
  return time_of(last_event_at_.load(std::memory_order_relaxed));
}

void Log::read(LogCursor& cursor, api::Delta& out) const {
  MLXS_ASSERT(cursor.index < size());
  const auto* segment = static_cast<const Segment*>(cursor.segment);
  if (segment == nullptr) segment = first_.load(std::memory_order_acquire);
  if (const Segment* next = segment->next.load(std::memory_order_acquire);
      next != nullptr && cursor.index >= next->first_index) {
    segment = next;
    cursor.offset = 0;
  }
  const std::byte* at = segment->data() + cursor.offset;
  Record record;
  std::memcpy(&record, at, sizeof(record));
  at += sizeof(record);
  out.choice = record.choice;
  out.token_ids.resize(record.ids);
  const std::size_t ids_bytes = record.ids * sizeof(std::int32_t);
  if (ids_bytes > 0) std::memcpy(out.token_ids.data(), at, ids_bytes);
  out.text.assign(reinterpret_cast<const char*>(at + ids_bytes), record.text_bytes);
  if (record.rest == nullptr) {
    out.reasoning.clear();
    out.tool_calls.clear();
    out.logprobs = nullptr;
    out.finish_reason.clear();
  } else {
    out.reasoning = record.rest->reasoning;
    out.tool_calls = record.rest->tool_calls;
    out.logprobs = record.rest->logprobs;
    out.finish_reason = record.rest->finish_reason;
  }
  cursor.segment = segment;
  cursor.offset += record.bytes;
  ++cursor.index;
}

bool Log::complete(std::size_t choices) const {
  return choices_ended_.size() >= choices && std::ranges::all_of(choices_ended_, std::identity{});
}

std::shared_ptr<const Log> Log::sealed() const {
  MLXS_ASSERT(appended_ == size());
  auto copy = std::make_shared<Log>(head_, bytes_max_);
  std::size_t records = 0;
  for (const Segment* segment = first_.load(std::memory_order_relaxed); segment != nullptr;
       segment = segment->next.load(std::memory_order_relaxed))
    records += segment->used;
  if (records > 0) copy->add_segment(records);
  LogCursor cursor;
  api::Delta delta;
  while (cursor.index < size()) {
    read(cursor, delta);
    const bool fits = copy->append(std::move(delta));
    MLXS_ASSERT(fits);
  }
  copy->usage_ = usage_;
  copy->finish_reason_.shrink_to_fit();
  copy->first_event_at_.store(first_event_at_.load(std::memory_order_relaxed));
  copy->last_event_at_.store(last_event_at_.load(std::memory_order_relaxed));
  copy->size_.store(copy->appended_, std::memory_order_release);
  copy->ended_.store(true, std::memory_order_release);
  return copy;
}

void Log::finish() {
  if (!ended()) end();
}

void Log::fail(Error error, std::optional<int> retry_after_s) {
  if (ended()) return;
  error_ = std::move(error);
  retry_after_s_ = retry_after_s;
  end();
}

void Log::end() {
  publish();
  ended_.store(true, std::memory_order_release);
  wake(true);
}

void Log::wake(bool ended) {
  const std::lock_guard lock{watches_mutex_};
  for (const auto& watch : watches_) watch->wake(ended);
  if (ended) watches_.clear();
}

std::shared_ptr<LogWatch> Log::watch(boost::asio::io_context& loop) const {
  const std::lock_guard lock{watches_mutex_};
  for (const auto& watch : watches_)
    if (watch->is_of(loop)) return watch;
  auto watch = std::make_shared<LogWatch>(*this, loop);
  if (!ended()) watches_.push_back(watch);
  return watch;
}

}  // namespace mlxs::gateway
