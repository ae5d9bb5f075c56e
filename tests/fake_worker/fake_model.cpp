#include "tests/fake_worker/fake_model.h"

#include "engine/testing/fake_runner.h"
#include "tests/fake_worker/byte_codec.h"

#include <cstdlib>
#include <memory>
#include <thread>
#include <utility>

namespace mlxs::fake {
namespace {

using engine::FakeRunner;

/// A letter or a space that follows from everything before it.
engine::TokenId endless_next(std::span<const engine::TokenId> history) {
  std::uint64_t hash = 1469598103934665603ULL;  // FNV-1a
  for (const engine::TokenId id : history)
    hash = (hash ^ static_cast<std::uint64_t>(id)) * 1099511628211ULL;
  const auto pick = static_cast<engine::TokenId>((hash >> 32) % 30);
  return pick < 26 ? 'a' + pick : ' ';
}

Result<void> before_step(const ModelKnobs& knobs, std::uint64_t step) {
  const auto at = [step](int knob) {
    return knob >= 0 && step == static_cast<std::uint64_t>(knob);
  };
  std::this_thread::sleep_for(knobs.step);
  if (at(knobs.crash_at_step)) std::abort();
  while (at(knobs.hang_at_step)) std::this_thread::sleep_for(std::chrono::hours{1});
  if (knobs.before_step) knobs.before_step(step);
  if (knobs.fail_from_step >= 0 && step >= static_cast<std::uint64_t>(knobs.fail_from_step))
    return fail(ErrorCode::kInternal, "the fake step fails as asked");
  return {};
}

Result<std::unique_ptr<engine::Runner>> load(const ModelKnobs& knobs,
                                             const worker::LoadProgress& progress) {
  if (knobs.before_load) knobs.before_load();
  constexpr int kParts = 10;
  for (int part = 1; part <= kParts; ++part) {
    std::this_thread::sleep_for(knobs.load / kParts);
    progress(static_cast<double>(part) / kParts);
  }
  if (!knobs.load_error.empty()) return fail(ErrorCode::kCorruptFile, knobs.load_error);
  FakeRunner::Options options;
  options.context_tokens_max = knobs.context_tokens_max;
  options.blocks_total = knobs.blocks_total;
  options.windows = knobs.windows;
  if (knobs.endless) options.next = &endless_next;
  options.before_run = [knobs](std::uint64_t run, const engine::Step&) {
    return before_step(knobs, run);
  };
  return std::make_unique<FakeRunner>(std::move(options));
}

}  // namespace

worker::ModelLoader model_loader(ModelKnobs knobs) {
  worker::ModelLoader loader;
  loader.fetch = knobs.fetch;
  loader.load_codec = [has_template =
                           knobs.has_template]() -> Result<std::unique_ptr<worker::Codec>> {
    return make_byte_codec(has_template);
  };
  loader.load_runner = [knobs = std::move(knobs)](const worker::LoadProgress& progress) {
    return load(knobs, progress);
  };
  return loader;
}

}  // namespace mlxs::fake
