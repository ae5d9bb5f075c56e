#include "gateway/stages/admission.h"

#include <algorithm>

namespace mlxs::gateway {
namespace {

std::int64_t second_of(TimePoint now) {
  return std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
}

}  // namespace

void Admission::Window::add(std::int64_t second) {
  auto& [when, count] = slots_[static_cast<std::size_t>(second % kSeconds)];
  if (when != second) {
    when = second;
    count = 0;
  }
  ++count;
}

int Admission::Window::sum(std::int64_t second) const {
  int total = 0;
  for (const auto& [when, count] : slots_)
    if (when > second - kSeconds && when <= second) total += count;
  return total;
}

std::optional<Admission::Ticket> Admission::try_enter(int limit, TimePoint now) {
  if (in_flight_.fetch_add(1, std::memory_order_relaxed) < limit) return Ticket{this};
  in_flight_.fetch_sub(1, std::memory_order_relaxed);
  const std::lock_guard lock{mutex_};
  refused_.add(second_of(now));
  return std::nullopt;
}

void Admission::leave(TimePoint now) {
  in_flight_.fetch_sub(1, std::memory_order_relaxed);
  const std::lock_guard lock{mutex_};
  completed_.add(second_of(now));
}

int Admission::retry_after_s(TimePoint now) {
  const std::lock_guard lock{mutex_};
  const int completed = completed_.sum(second_of(now));
  if (completed == 0) return 10;
  const int refused = std::max(1, refused_.sum(second_of(now)));
  // refused / (completed / 10 s), rounded up.
  return std::clamp((refused * 10 + completed - 1) / completed, 1, 60);
}

}  // namespace mlxs::gateway
