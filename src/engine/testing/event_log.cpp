#include "engine/testing/event_log.h"

#include "base/assert.h"

#include <algorithm>
#include <chrono>
#include <iterator>

namespace mlxs::engine {

Engine::StepSink EventLog::sink() {
  return [this](std::vector<GenerationEvent>&& events) {
    const std::lock_guard lock{mutex_};
    std::move(events.begin(), events.end(), std::back_inserter(events_));
    arrived_.notify_all();
  };
}

GenerationEvent EventLog::finished(SequenceId id) {
  wait([id](const std::vector<GenerationEvent>& events) {
    return std::ranges::any_of(
        events, [id](const auto& event) { return event.sequence == id && event.finish; });
  });
  GenerationEvent joined{.sequence = id, .token_ids = {}, .text = {}};
  for (const GenerationEvent& event : all()) {
    if (event.sequence != id) continue;
    MLXS_ASSERT(!joined.finish);  // the last event is the last
    joined.token_ids.insert(joined.token_ids.end(), event.token_ids.begin(), event.token_ids.end());
    joined.text += event.text;
    const auto append = [](auto& all, const auto& more) {
      all.insert(all.end(), more.begin(), more.end());
    };
    append(joined.logprobs, event.logprobs);
    append(joined.prompt_logprobs, event.prompt_logprobs);
    joined.finish = event.finish;
    joined.error = event.error;
    joined.prompt_tokens = event.prompt_tokens;
    joined.completion_tokens = event.completion_tokens;
    joined.cached_tokens = event.cached_tokens;
  }
  return joined;
}

void EventLog::wait(const std::function<bool(const std::vector<GenerationEvent>&)>& enough) {
  std::unique_lock lock{mutex_};
  MLXS_ASSERT(arrived_.wait_for(lock, std::chrono::seconds{90}, [&] { return enough(events_); }));
}

std::vector<GenerationEvent> EventLog::all() const {
  const std::lock_guard lock{mutex_};
  return events_;
}

}  // namespace mlxs::engine
