#include "gateway/cache/features.h"

namespace mlxs::gateway {
namespace {

std::uint32_t bit(Feature feature) { return 1U << static_cast<unsigned>(feature); }

}  // namespace

std::string_view to_string(Feature feature) {
  switch (feature) {
    case Feature::kCoalescing:
      return "coalescing";
    case Feature::kDedup:
      return "dedup";
    case Feature::kPromptCache:
      return "prompt_cache";
  }
  return "";
}

std::optional<Feature> feature_named(std::string_view name) {
  for (const Feature feature : kFeatures)
    if (to_string(feature) == name) return feature;
  return std::nullopt;
}

bool Features::enabled(Feature feature) const {
  return (off_.load(std::memory_order_acquire) & bit(feature)) == 0;
}

bool Features::enabled(Feature feature, std::string_view model) const {
  if (!enabled(feature)) return false;
  if (!any_model_off_.load(std::memory_order_acquire)) return true;
  const std::lock_guard lock{mutex_};
  return !models_off_.contains(std::pair{feature, std::string{model}});
}

void Features::set(Feature feature, bool enabled) {
  if (enabled) {
    off_.fetch_and(~bit(feature), std::memory_order_acq_rel);
  } else {
    off_.fetch_or(bit(feature), std::memory_order_acq_rel);
  }
}

void Features::set(Feature feature, std::string_view model, bool enabled) {
  const std::lock_guard lock{mutex_};
  const std::pair entry{feature, std::string{model}};
  if (enabled) {
    models_off_.erase(entry);
  } else {
    models_off_.insert(entry);
  }
  any_model_off_.store(!models_off_.empty(), std::memory_order_release);
}

}  // namespace mlxs::gateway
