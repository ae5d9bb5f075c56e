#include "base/descriptors.h"

#include <sys/resource.h>

#include <algorithm>

namespace mlxs {

void allow_many_descriptors() {
  // macOS takes no more than this, whatever its hard limit says; elsewhere more is no use to us.
  constexpr rlim_t kMacMax = 10'240;
  constexpr rlim_t kWanted = 1'048'576;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  for (const rlim_t wanted : {kWanted, kMacMax}) {
    const rlimit raised{std::min(wanted, limit.rlim_max), limit.rlim_max};
    if (raised.rlim_cur <= limit.rlim_cur || ::setrlimit(RLIMIT_NOFILE, &raised) == 0) return;
  }
}

}  // namespace mlxs
