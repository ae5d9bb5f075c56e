#pragma once

#include <algorithm>
#include <chrono>
#include <optional>

namespace mlxs {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Milliseconds = std::chrono::milliseconds;

/// The moment after which a result is of no use to anyone. A value; unreachable by default; a time
/// point inside a process and a duration on the wire, since clocks of two hosts differ.
class Deadline {
 public:
  /// Never passes.
  constexpr Deadline() = default;
  static constexpr Deadline at(TimePoint when) { return Deadline{when}; }
  /// Saturates instead of overflowing; a negative `duration` is already passed.
  static Deadline after(Milliseconds duration, TimePoint now = Clock::now()) {
    const auto room = std::chrono::duration_cast<Milliseconds>(TimePoint::max() - now);
    return duration >= room ? Deadline{} : Deadline{now + duration};
  }

  [[nodiscard]] constexpr bool reachable() const { return when_ != TimePoint::max(); }
  [[nodiscard]] bool passed(TimePoint now = Clock::now()) const { return now >= when_; }
  /// Time left, zero if passed; nothing if unreachable.
  [[nodiscard]] std::optional<Milliseconds> left(TimePoint now = Clock::now()) const {
    if (!reachable()) return std::nullopt;
    return std::max(Milliseconds{0}, std::chrono::duration_cast<Milliseconds>(when_ - now));
  }
  [[nodiscard]] constexpr TimePoint when() const { return when_; }
  [[nodiscard]] static constexpr Deadline sooner(Deadline a, Deadline b) {
    return a.when_ < b.when_ ? a : b;
  }
  constexpr auto operator<=>(const Deadline&) const = default;

 private:
  explicit constexpr Deadline(TimePoint when) : when_(when) {}
  TimePoint when_ = TimePoint::max();
};

}  // namespace mlxs
