#include "gateway/flight/log.h"

#include "base/assert.h"

#include <boost/json/serialize.hpp>

#include <utility>

namespace mlxs::gateway {
namespace {

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

}  // namespace

bool Log::append(api::Delta&& delta) {
  MLXS_ASSERT(!ended_flag_);
  const bool rest = has_rest(delta);
  const std::size_t bytes = sizeof(Event) + delta.text.size() +
                            delta.token_ids.size() * sizeof(std::int32_t) +
                            (rest ? rest_bytes(delta) : 0);
  if (bytes > bytes_max_ - bytes_) return false;
  bytes_ += bytes;
  text_ += delta.text;
  ids_.insert(ids_.end(), delta.token_ids.begin(), delta.token_ids.end());
  events_.push_back({static_cast<std::uint32_t>(text_.size()),
                     static_cast<std::uint32_t>(ids_.size()),
                     delta.choice,
                     rest ? static_cast<std::int32_t>(rest_.size()) : -1});
  if (rest) {
    if (!delta.finish_reason.empty()) finish_reason_ = delta.finish_reason;
    delta.text.clear();
    delta.token_ids.clear();
    rest_.push_back(std::move(delta));
  }
  return true;
}

void Log::publish() {
  if (events_.empty()) return;
  last_event_at_ = Clock::now();
  if (!first_event_at_) first_event_at_ = last_event_at_;
  grown_.notify();
}

void Log::read(std::size_t index, api::Delta& out) const {
  MLXS_ASSERT(index < events_.size());
  const Event& event = events_[index];
  const std::uint32_t text_begin = index == 0 ? 0 : events_[index - 1].text_end;
  const std::uint32_t ids_begin = index == 0 ? 0 : events_[index - 1].ids_end;
  out.choice = event.choice;
  out.text.assign(text_, text_begin, event.text_end - text_begin);
  out.token_ids.assign(ids_.begin() + ids_begin, ids_.begin() + event.ids_end);
  if (event.rest < 0) {
    out.reasoning.clear();
    out.tool_calls.clear();
    out.logprobs = nullptr;
    out.finish_reason.clear();
    return;
  }
  const api::Delta& rest = rest_[static_cast<std::size_t>(event.rest)];
  out.reasoning = rest.reasoning;
  out.tool_calls = rest.tool_calls;
  out.logprobs = rest.logprobs;
  out.finish_reason = rest.finish_reason;
}

void Log::finish() {
  if (!ended_flag_) end();
}

void Log::fail(Error error) {
  if (ended_flag_) return;
  error_ = std::move(error);
  end();
}

void Log::end() {
  ended_flag_ = true;
  grown_.notify();
  ended_.notify();
}

}  // namespace mlxs::gateway
