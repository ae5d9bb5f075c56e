#include "hub/meter.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace mlxs::hub {
namespace {

constexpr double kMemoryS = 5.0;  // What is older counts for less than a third.
constexpr double kSampleS = 0.5;  // Shorter ones are mostly noise.

}  // namespace

std::string format_bytes(std::uint64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  auto value = static_cast<double>(bytes);
  const char* unit = "";
  for (const char* const next : {"kB", "MB", "GB", "TB"}) {
    if (value < 999.5) break;
    value /= 1000;
    unit = next;
  }
  return fmt::format("{:.{}f} {}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0, unit);
}

std::string format_duration(Milliseconds duration) {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(duration).count();
  if (seconds < 60) return fmt::format("{} s", seconds);
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  return fmt::format("{} h {} min", seconds / 3600, seconds % 3600 / 60);
}

std::string Meter::text(const PullProgress& progress, TimePoint now) {
  const double passed = std::chrono::duration<double>(now - at_).count();
  if (passed >= kSampleS) {
    const double sample = static_cast<double>(progress.transferred - transferred_) / passed;
    const double keep = std::exp(-passed / kMemoryS);
    rate_ = rate_ ? keep * *rate_ + (1 - keep) * sample : sample;
    at_ = now;
    transferred_ = progress.transferred;
  }
  if (progress.total == 0) return "asking for the list of files";
  const double share =
      100.0 * static_cast<double>(progress.done) / static_cast<double>(progress.total);
  std::string text = fmt::format("{} of {}, {:.0f} %",
                                 format_bytes(progress.done),
                                 format_bytes(progress.total),
                                 std::min(std::floor(share), 100.0));
  if (!rate_ || *rate_ < 1) return text;
  text += fmt::format(", {}/s", format_bytes(static_cast<std::uint64_t>(*rate_)));
  if (progress.done >= progress.total) return text;
  const double left = static_cast<double>(progress.total - progress.done) / *rate_;
  return text + fmt::format(", {} left",
                            format_duration(Milliseconds{static_cast<std::int64_t>(1000 * left)}));
}

}  // namespace mlxs::hub
