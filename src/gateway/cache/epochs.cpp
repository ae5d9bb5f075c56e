#include "gateway/cache/epochs.h"

#include <algorithm>
#include <utility>

namespace mlxs::gateway {
namespace {

template <class Map>
void merge_latest(Map& into, const Map& from) {
  for (const auto& [name, count] : from) {
    std::uint64_t& ours = into[name];
    ours = std::max(ours, count);
  }
}

template <class Map>
std::uint64_t drop_oldest(Map& map) {
  const auto oldest =
      std::ranges::min_element(map, {}, [](const auto& entry) { return entry.second; });
  const std::uint64_t count = oldest->second;
  map.erase(oldest);
  return count;
}

template <class Map, class Name>
std::uint64_t last_flush(const Map& map, const Name& name) {
  const auto it = map.find(name);
  return it == map.end() ? 0 : it->second;
}

}  // namespace

void EpochState::flush(const FlushScope& scope) {
  ++count;
  switch (scope.kind) {
    case FlushScope::Kind::kAll:
      all = count;
      break;
    case FlushScope::Kind::kTenant:
      tenants[scope.name] = count;
      break;
    case FlushScope::Kind::kModel:
      models[scope.name] = count;
      break;
    case FlushScope::Kind::kKey:
      keys[scope.digest] = count;
      break;
  }
  bound();
}

void EpochState::merge(const EpochState& other) {
  lineage = other.lineage;
  count = std::max(count, other.count);
  all = std::max(all, other.all);
  merge_latest(tenants, other.tenants);
  merge_latest(models, other.models);
  merge_latest(keys, other.keys);
  bound();
}

void EpochState::bound() {
  while (tenants.size() > kScopesMax) all = std::max(all, drop_oldest(tenants));
  while (models.size() > kScopesMax) all = std::max(all, drop_oldest(models));
  while (keys.size() > kScopesMax) all = std::max(all, drop_oldest(keys));
}

bool EpochState::fresh(std::uint64_t stamp, const Fingerprint& subject) const {
  return stamp >= all && stamp >= last_flush(tenants, subject.tenant) &&
         stamp >= last_flush(models, subject.model) && stamp >= last_flush(keys, subject.digest);
}

Epochs::Epochs(EpochState state) : count_(state.count), state_(std::move(state)) {}

bool Epochs::fresh(Stamp stamp, const Fingerprint& subject) const {
  const auto admitted = static_cast<std::uint64_t>(stamp);
  if (admitted >= count_.load(std::memory_order_acquire)) return true;
  const std::lock_guard lock{mutex_};
  return state_.fresh(admitted, subject);
}

void Epochs::flush(const FlushScope& scope) {
  const std::lock_guard lock{mutex_};
  state_.flush(scope);
  count_.store(state_.count, std::memory_order_release);
}

void Epochs::merge(const EpochState& other) {
  const std::lock_guard lock{mutex_};
  state_.merge(other);
  count_.store(state_.count, std::memory_order_release);
}

EpochState Epochs::state() const {
  const std::lock_guard lock{mutex_};
  return state_;
}

}  // namespace mlxs::gateway
