#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

namespace mlxs::gateway {

/// What an operator can switch at run time.
enum class Feature : std::uint8_t { kCoalescing, kDedup, kPromptCache };
inline constexpr std::array kFeatures{Feature::kCoalescing, Feature::kDedup, Feature::kPromptCache};
[[nodiscard]] std::string_view to_string(Feature feature);
[[nodiscard]] std::optional<Feature> feature_named(std::string_view name);

/// Switches beside the configuration: off here is off whatever a policy says; on here leaves it to
/// the policy. They outlive a reload, so that it cannot undo an emergency's switch, and end with
/// the process: what is to last belongs into the configuration. Any thread.
class Features {
 public:
  /// Two atomic loads unless a model has a switch of its own.
  [[nodiscard]] bool enabled(Feature feature, std::string_view model) const;
  /// Of the whole server, leaving models aside.
  [[nodiscard]] bool enabled(Feature feature) const;

  void set(Feature feature, bool enabled);
  void set(Feature feature, std::string_view model, bool enabled);

 private:
  std::atomic<std::uint32_t> off_{0};  // a bit for each feature
  std::atomic<bool> any_model_off_{false};
  mutable std::mutex mutex_;
  std::set<std::pair<Feature, std::string>, std::less<>> models_off_;
};

}  // namespace mlxs::gateway
