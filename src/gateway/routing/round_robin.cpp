#include "gateway/routing/round_robin.h"

#include <algorithm>

namespace mlxs::gateway {

WorkerPtr RoundRobin::pick(std::string_view model,
                           const std::vector<WorkerPtr>& ready,
                           std::string_view avoid) {
  if (ready.empty()) return nullptr;
  const std::lock_guard lock{mutex_};
  auto it = last_.find(model);
  if (it == last_.end()) it = last_.emplace(std::string{model}, std::string{}).first;
  std::string& last = it->second;
  const auto after = std::find_if(
      ready.begin(), ready.end(), [&](const WorkerPtr& worker) { return worker->id > last; });
  auto index = static_cast<std::size_t>(after - ready.begin()) % ready.size();
  if (ready[index]->id == avoid) index = (index + 1) % ready.size();
  last = ready[index]->id;
  return ready[index];
}

}  // namespace mlxs::gateway
