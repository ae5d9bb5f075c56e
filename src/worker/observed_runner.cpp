#include "worker/observed_runner.h"

#include "base/deadline.h"

#include <chrono>
#include <utility>

namespace mlxs::worker {
namespace {

class ObservedRunner final : public engine::Runner {
 public:
  ObservedRunner(std::unique_ptr<engine::Runner> inner, Metrics& metrics)
      : inner_(std::move(inner)), metrics_(metrics) {}

  const engine::ModelInfo& info() const override { return inner_->info(); }

  Result<engine::Logits> run(const engine::Step& step) override {
    const TimePoint begin = Clock::now();
    auto logits = inner_->run(step);
    metrics_.step_seconds.observe(std::chrono::duration<double>(Clock::now() - begin).count());
    metrics_.step_tokens.observe(static_cast<double>(step.tokens.size()));
    metrics_.batch_size.observe(static_cast<double>(step.segments.size()));
    return logits;
  }

 private:
  std::unique_ptr<engine::Runner> inner_;
  Metrics& metrics_;
};

}  // namespace

std::unique_ptr<engine::Runner> observe(std::unique_ptr<engine::Runner> inner, Metrics& metrics) {
  return std::make_unique<ObservedRunner>(std::move(inner), metrics);
}

}  // namespace mlxs::worker
