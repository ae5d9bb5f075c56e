#include "engine/load/memory_limit.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

namespace mlxs::engine {
namespace {

/// The number in a control-group file; the largest there is where it says "max" or is absent.
std::uint64_t read_limit(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::uint64_t limit = 0;
  return file >> limit ? limit : UINT64_MAX;
}

std::uint64_t group_limit(const std::filesystem::path& root,
                          std::filesystem::path group,
                          const char* file) {
  std::uint64_t limit = read_limit(root / file);
  for (group = group.relative_path(); !group.empty(); group = group.parent_path()) {
    limit = std::min(limit, read_limit(root / group / file));
  }
  return limit;
}

}  // namespace

std::uint64_t memory_limit_bytes() {
  auto limit = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
               static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  std::ifstream groups("/proc/self/cgroup");
  // Lines read "0::/path" in version 2 and "N:controllers:/path" in version 1.
  for (std::string line; std::getline(groups, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::filesystem::path path = line.substr(second + 1);
    if (controllers.empty()) {
      limit = std::min(limit, group_limit("/sys/fs/cgroup", path, "memory.max"));
    } else if (controllers == "memory") {
      limit = std::min(limit, group_limit("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"));
    }
  }
  return limit;
}

}  // namespace mlxs::engine
