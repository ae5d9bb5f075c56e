#include "worker/memory.h"

#include <unistd.h>

#include <fstream>

#ifdef __APPLE__
#include <mach/mach.h>
#endif

namespace mlxs::worker {

std::uint64_t resident_bytes() {
#ifdef __APPLE__
  mach_task_basic_info info{};
  mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
  const auto target = reinterpret_cast<task_info_t>(&info);
  if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, target, &count) != KERN_SUCCESS) return 0;
  return info.resident_size;
#else
  std::ifstream file{"/proc/self/statm"};
  std::uint64_t pages_total = 0;
  std::uint64_t pages_resident = 0;
  file >> pages_total >> pages_resident;
  return pages_resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
#endif
}

}  // namespace mlxs::worker
