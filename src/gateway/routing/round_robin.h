#pragma once

#include "gateway/fleet/table.h"

#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::gateway {

/// Takes a model's ready workers in turn. Remembers the last one by id, not by position: the next
/// is the first id after it, so that a worker that comes or goes makes no other one skip or repeat
/// its turn. One for all loops, so that the turns hold for the whole gateway; the lock is held for
/// a look-up and a string copy. Any thread.
class RoundRobin {
 public:
  /// One of `ready` (in the order of ids), not `avoid` unless it is the only one; null if empty.
  [[nodiscard]] WorkerPtr pick(std::string_view model,
                               const std::vector<WorkerPtr>& ready,
                               std::string_view avoid = {});

 private:
  std::mutex mutex_;
  std::map<std::string, std::string, std::less<>> last_;  // model → id of the last worker
};

}  // namespace mlxs::gateway
