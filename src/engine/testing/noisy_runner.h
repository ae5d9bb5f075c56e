#pragma once

#include "engine/runner.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

namespace mlxs::engine {

/// Another runner whose logits can be moved at random by up to `epsilon`, to see which answers hang
/// on less than that: 0 leaves them alone, every other `noise` moves them its own way. Whoever
/// started the engine may change `noise` between answers; it outlives the runner.
class NoisyRunner : public Runner {
 public:
  NoisyRunner(std::unique_ptr<Runner> inner, const std::atomic<int>& noise, float epsilon)
      : inner_{std::move(inner)}, noise_{noise}, epsilon_{epsilon} {}
  const ModelInfo& info() const override { return inner_->info(); }
  Result<Logits> run(const Step& step) override {
    auto logits = inner_->run(step);
    if (!logits || noise_ == 0) return logits;
    std::mt19937 random{static_cast<std::uint32_t>(noise_ * 7919 + ++runs_)};
    std::uniform_real_distribution<float> move{-epsilon_, epsilon_};
    moved_.assign(logits->values.begin(), logits->values.end());
    for (float& value : moved_) value += move(random);
    return Logits{moved_, logits->vocab_size};
  }

 private:
  std::unique_ptr<Runner> inner_;
  const std::atomic<int>& noise_;
  const float epsilon_;
  int runs_ = 0;
  std::vector<float> moved_;
};

}  // namespace mlxs::engine
