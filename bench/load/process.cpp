#include "bench/load/process.h"

#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

namespace mlxs::bench {

ProcessUse process_use(pid_t pid) {
  ProcessUse use;
#ifdef __linux__
  clockid_t clock{};
  timespec time{};
  if (::clock_getcpuclockid(pid, &clock) == 0 && ::clock_gettime(clock, &time) == 0)
    use.cpu_seconds = static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  const std::filesystem::path folder = "/proc/" + std::to_string(pid);
  std::ifstream pages{folder / "statm"};
  std::int64_t size = 0;
  std::int64_t resident = 0;
  if (pages >> size >> resident) use.resident_bytes = resident * ::sysconf(_SC_PAGESIZE);
  std::error_code ignored;
  const std::filesystem::directory_iterator open{folder / "fd", ignored};
  if (!ignored) use.descriptors = static_cast<int>(std::distance(begin(open), end(open)));
#else
  (void)pid;
#endif
  return use;
}

}  // namespace mlxs::bench
