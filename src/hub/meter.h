#pragma once

#include "base/deadline.h"
#include "hub/pull.h"

#include <optional>
#include <string>

namespace mlxs::hub {

/// "512 B", "1.5 MB", "4.53 GB": decimal units, as hubs and disks are labelled.
[[nodiscard]] std::string format_bytes(std::uint64_t bytes);
/// "40 s", "3 min 20 s", "2 h 5 min"
[[nodiscard]] std::string format_duration(Milliseconds duration);

/// Turns the progress of one pull into words. One thread.
class Meter {
 public:
  explicit Meter(TimePoint now) : at_(now) {}

  /// "1.20 of 4.53 GB, 26 %, 31.0 MB/s, 1 min 47 s left" as of `now`, which never goes back.
  [[nodiscard]] std::string text(const PullProgress& progress, TimePoint now);

 private:
  TimePoint at_;
  std::uint64_t transferred_ = 0;
  std::optional<double> rate_;  ///< Bytes a second, over some seconds.
};

}  // namespace mlxs::hub
