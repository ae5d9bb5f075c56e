#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace mlxs::bench {

/// What the operating system has counted for another process.
struct ProcessUse {
  double cpu_seconds = 0;           ///< All threads, user and system.
  std::int64_t resident_bytes = 0;  ///< 0 where the system does not say.
  int descriptors = 0;
};

/// Zeros when there is no such process.
[[nodiscard]] ProcessUse process_use(pid_t pid);

/// "gateway=1234"
struct Watched {
  std::string name;
  pid_t pid = 0;
};

}  // namespace mlxs::bench
