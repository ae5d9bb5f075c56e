#pragma once

#include "base/deadline.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>

namespace mlxs::gateway {

/// Bounds the requests being answered (limits.in_flight), waiting ones included; there is no other
/// queue in the gateway. Beyond it a request is refused at once. One for all loops. Any thread.
class Admission {
 public:
  /// A place among the requests in flight, given back on destruction. Outlived by the Admission.
  class Ticket {
   public:
    explicit Ticket(Admission* owner) : owner_(owner) {}
    Ticket(Ticket&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)) {}
    Ticket& operator=(Ticket&&) = delete;
    ~Ticket() {
      if (owner_ != nullptr) owner_->leave();
    }

   private:
    Admission* owner_;
  };

  /// Nothing when `limit` requests are in flight; the refusal is then counted for `retry_after_s`.
  [[nodiscard]] std::optional<Ticket> try_enter(int limit, TimePoint now = Clock::now());
  [[nodiscard]] int in_flight() const { return in_flight_.load(std::memory_order_relaxed); }

  /// When a refused client should come back, in whole seconds, 1 to 60: the clients refused in the
  /// last ten seconds will all be back, and places come free at the rate at which requests
  /// completed in that time. Without a completion, ten seconds.
  [[nodiscard]] int retry_after_s(TimePoint now = Clock::now());

 private:
  // Counts per second over the last ten seconds.
  class Window {
   public:
    void add(std::int64_t second);
    [[nodiscard]] int sum(std::int64_t second) const;

   private:
    static constexpr std::int64_t kSeconds = 10;
    std::array<std::pair<std::int64_t, int>, kSeconds> slots_{};  // second, count
  };
  void leave(TimePoint now = Clock::now());

  std::atomic<int> in_flight_{0};
  std::mutex mutex_;
  Window completed_;
  Window refused_;
};

}  // namespace mlxs::gateway
