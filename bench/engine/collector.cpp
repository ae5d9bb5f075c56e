#include "bench/engine/collector.h"

#include "engine/detokenizer.h"
#include "engine/model_runner.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

namespace mlxs::bench {
namespace {

/// Ids are what is measured; text would be the tokenizer's time.
class NoText final : public engine::Detokenizer {
 public:
  Result<std::string> push(engine::TokenId) override { return std::string{}; }
  Result<std::string> finish() override { return std::string{}; }
};

}  // namespace

Collector::Collector(const std::string& source, const engine::EngineLimits& limits) {
  auto started = engine::Engine::start(
      [&] {
        engine::ModelOptions options;
        options.source = source;
        options.sequences_max = limits.sequences_max;
        options.step_tokens_max = limits.step_tokens_max;
        return engine::load_runner(options, {});
      },
      [] { return std::make_unique<NoText>(); },
      limits,
      [this](std::vector<engine::GenerationEvent>&& events) { take(std::move(events)); });
  if (!started) {
    fmt::print(stderr, "{}\n", started.error().message);
    std::exit(1);
  }
  engine_ = std::move(*started);
}

engine::SequenceId Collector::submit(std::vector<engine::TokenId> prompt, int completion_tokens) {
  engine::SequenceId id{};
  {
    const std::lock_guard lock{mutex_};
    id = engine::SequenceId{next_id_++};
    tracks_[id].submitted = std::chrono::steady_clock::now();
  }
  engine::GenerationRequest request;
  request.prompt = std::move(prompt);
  request.completion_tokens_max = completion_tokens;
  request.ignore_end_tokens = true;
  request.sampling.temperature = 0;
  const auto submitted = engine_->submit(id, std::move(request));
  if (!submitted) {
    fmt::print(stderr, "{}\n", submitted.error().message);
    std::exit(1);
  }
  return id;
}

void Collector::cancel_all() {
  std::vector<engine::SequenceId> open;
  {
    const std::lock_guard lock{mutex_};
    for (const auto& [id, track] : tracks_)
      if (!track.finished) open.push_back(id);
  }
  for (const engine::SequenceId id : open) engine_->cancel(id);
}

void Collector::wait(const std::function<bool(const Tracks&)>& condition) {
  std::unique_lock lock{mutex_};
  changed_.wait(lock, [&] { return condition(tracks_); });
}

std::vector<Moment> Collector::steps() const {
  const std::lock_guard lock{mutex_};
  return steps_;
}

Collector::Tracks Collector::tracks() const {
  const std::lock_guard lock{mutex_};
  return tracks_;
}

void Collector::take(std::vector<engine::GenerationEvent>&& events) {
  const Moment now = std::chrono::steady_clock::now();
  {
    const std::lock_guard lock{mutex_};
    if (!events.empty()) steps_.push_back(now);
    for (const engine::GenerationEvent& event : events) {
      Track& track = tracks_[event.sequence];
      track.tokens.insert(track.tokens.end(), event.token_ids.begin(), event.token_ids.end());
      track.token_times.insert(track.token_times.end(), event.token_ids.size(), now);
      track.finished = track.finished || event.finish.has_value();
      track.failed = track.failed || event.error.has_value();
    }
  }
  changed_.notify_all();
}

}  // namespace mlxs::bench
