#pragma once

#include "base/deadline.h"
#include "base/result.h"
#include "hub/environment.h"
#include "hub/fetch.h"
#include "hub/source.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace mlxs::hub {

/// How far a pull is.
struct PullProgress {
  std::uint64_t done = 0;         ///< Bytes that are there, earlier tries included.
  std::uint64_t total = 0;        ///< Bytes of all files; 0 until they are known.
  std::uint64_t transferred = 0;  ///< Bytes that came over the wire.
};

struct PullOptions {
  Source source;
  Environment environment;
  int jobs = 4;  ///< Files at a time.
  RetryRules retries = {};
  /// Called on the thread that pulls, some times a second and once at the end.
  std::function<void(const PullProgress&)> on_progress = {};
};

/// What a pull brought or found.
struct Pulled {
  std::filesystem::path path;  ///< As Cache::find.
  std::string commit;
  std::size_t files = 0;
  PullProgress progress = {};
};

/// Makes the cache hold what an engine needs of `options.source`, as the hub has it now; with
/// HF_HUB_OFFLINE, says whether it holds it. Blocks. Interrupted at any point, even killed, it
/// leaves what has come for the next pull, and what was complete before stays complete. Two pulls
/// at once, in any processes, share the work.
/// kConfig offline and not cached; kNotFound when the repository lacks a needed file; kIo with the
/// numbers when the disk has too little room; kCancelled soon after `cancelled` was set; else as
/// `fetch`.
[[nodiscard]] Result<Pulled> pull(const PullOptions& options, const std::atomic<bool>& cancelled);

/// Whether a model's `source` is a path that exists, or else what it means on a hub; nothing if it
/// is neither, and a path that is missing.
[[nodiscard]] std::optional<Source> hub_source(const std::string& source);

/// What to load for a model's `source`: itself unless it is a hub's; else from the cache, without
/// asking the hub whether there is something newer; else pulled. Errors as `pull`.
[[nodiscard]] Result<std::filesystem::path> locate(
    const std::string& source, const std::function<void(const PullProgress&)>& on_progress);

}  // namespace mlxs::hub
