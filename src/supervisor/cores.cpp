#include "supervisor/cores.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

namespace mlxs::supervisor {
namespace {

std::string read_text(const std::filesystem::path& file) {
  std::ifstream in{file};
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

/// The smallest quota from our cgroup up to the root.
std::optional<int> cgroup_cores() {
  const std::filesystem::path root = "/sys/fs/cgroup";
  std::optional<int> least;
  const auto consider = [&least](std::optional<int> cores) {
    if (cores) least = std::min(least.value_or(*cores), *cores);
  };
  std::istringstream lines{read_text("/proc/self/cgroup")};
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("0::/")) continue;
    std::filesystem::path below = line.substr(4);
    for (; !below.empty(); below = below.parent_path())
      consider(cores_of_cpu_max(read_text(root / below / "cpu.max")));
  }
  consider(cores_of_cpu_max(read_text(root / "cpu.max")));
  std::string quota = read_text(root / "cpu/cpu.cfs_quota_us");
  std::string period = read_text(root / "cpu/cpu.cfs_period_us");
  if (!quota.empty() && !quota.starts_with('-')) consider(cores_of_cpu_max(quota + " " + period));
  return least;
}

}  // namespace

std::optional<int> cores_of_cpu_max(std::string_view text) {
  std::istringstream in{std::string{text}};
  std::int64_t quota = 0;
  std::int64_t period = 0;
  if (!(in >> quota >> period) || quota <= 0 || period <= 0) return std::nullopt;
  return static_cast<int>(std::clamp<std::int64_t>((quota + period - 1) / period, 1, 4096));
}

int cores_available() {
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return std::min(cores, cgroup_cores().value_or(cores));
}

}  // namespace mlxs::supervisor
