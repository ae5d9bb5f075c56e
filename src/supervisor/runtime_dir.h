#pragma once

#include "base/result.h"
#include "supervisor/fd.h"

#include <filesystem>

namespace mlxs::supervisor {

/// A folder of this supervisor's own for its workers' sockets: mode 0700, removed with this object.
/// A lock inside says that its supervisor is alive, so that the next start can remove what a killed
/// one left.
class RuntimeDir {
 public:
  /// Below $XDG_RUNTIME_DIR, $TMPDIR or /tmp, the first that is a folder with a path short enough
  /// for a socket address. Removes stale folders there. kIo when nothing can be made.
  [[nodiscard]] static Result<RuntimeDir> create();
  [[nodiscard]] static Result<RuntimeDir> create_below(const std::filesystem::path& base);

  RuntimeDir(RuntimeDir&&) noexcept = default;
  RuntimeDir& operator=(RuntimeDir&&) = delete;
  ~RuntimeDir();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  RuntimeDir(std::filesystem::path path, Fd lock)
      : path_(std::move(path)), lock_(std::move(lock)) {}

  std::filesystem::path path_;
  Fd lock_;
};

}  // namespace mlxs::supervisor
