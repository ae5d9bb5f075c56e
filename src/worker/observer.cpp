#include "worker/observer.h"

#include "base/assert.h"

#include <chrono>
#include <utility>

namespace mlxs::worker {
namespace {

double seconds_between(TimePoint begin, TimePoint end) {
  return std::chrono::duration<double>(end - begin).count();
}

}  // namespace

std::string_view finish_name(engine::FinishReason reason) {
  MLXS_ASSERT(reason != engine::FinishReason::kError);
  return reason == engine::FinishReason::kStop ? "stop" : "length";
}

Observer::~Observer() {
  if (!counted_) metrics_.count_finished("abort");
}

void Observer::produced(const Piece& piece) {
  const TimePoint now = Clock::now();
  if (!piece.token_ids.empty()) {
    TimePoint& last_at = last_at_[piece.choice];
    if (last_at != TimePoint{})
      metrics_.inter_token.observe(seconds_between(last_at, now));
    else if (!std::exchange(begun_, true))
      metrics_.time_to_first_token.observe(seconds_between(arrived_at_, now));
    last_at = now;
  }
  if (!piece.finish) return;
  completion_tokens_ += piece.completion_tokens;
  if (--unfinished_ > 0) return;
  metrics_.request_seconds.observe(seconds_between(arrived_at_, now));
  metrics_.request_prompt_tokens.observe(piece.prompt_tokens);
  metrics_.request_generation_tokens.observe(completion_tokens_);
  finish(finish_name(*piece.finish));
}

void Observer::failed(const Error& error) {
  finish(error.code == ErrorCode::kCancelled ? "abort" : "error");
}

void Observer::finish(std::string_view reason) {
  metrics_.count_finished(reason);
  counted_ = true;
}

}  // namespace mlxs::worker
