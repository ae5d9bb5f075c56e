#include "gateway/sharing/flight_table.h"

#include "base/assert.h"

namespace mlxs::gateway {

Subscription& Subscription::operator=(Subscription&& other) noexcept {
  if (this == &other) return *this;
  leave();
  table_ = other.table_;
  flight_ = std::exchange(other.flight_, nullptr);
  return *this;
}

void Subscription::leave() {
  if (flight_) table_->leave(std::exchange(flight_, nullptr));
}

bool FlightTable::is_good(const Flight& flight, const JoinLimits& limits) const {
  return flight.log().bytes() <= limits.log_bytes &&
         epochs_.fresh(flight.admitted(), *flight.fingerprint());
}

bool FlightTable::can_join(const Flight& flight, const JoinLimits& limits) const {
  return flight.seat_.subscribers < limits.subscribers && is_good(flight, limits);
}

Subscription FlightTable::enter(const FlightPtr& flight, bool keep) {
  subscribers_.fetch_add(1, std::memory_order_relaxed);
  ++flight->seat_.subscribers;
  ++flight->seat_.subscribers_ever;
  flight->seat_.keep = flight->seat_.keep || keep;
  return {*this, flight};
}

Subscription FlightTable::join(const Fingerprint& fingerprint,
                               const JoinLimits& limits,
                               bool keep) {
  const std::lock_guard lock{mutex_};
  const auto found = flights_.find(fingerprint.digest);
  if (found == flights_.end()) return {};
  Flight& flight = *found->second;
  if (!(*flight.fingerprint() == fingerprint)) return {};
  if (!is_good(flight, limits)) take_out(flight);
  if (!flight.seat_.open || !can_join(flight, limits)) return {};
  return enter(found->second, keep);
}

std::pair<Subscription, FlightTable::Added> FlightTable::add(const FlightPtr& flight,
                                                             const JoinLimits& limits,
                                                             bool keep,
                                                             bool replace) {
  const std::lock_guard lock{mutex_};
  if (const auto found = flights_.find(flight->fingerprint()->digest); found != flights_.end()) {
    Flight& other = *found->second;
    const bool equal = *other.fingerprint() == *flight->fingerprint();
    if (equal && !replace && can_join(other, limits))
      return {enter(found->second, keep), Added::kJoined};
    if (!equal || !replace) return {enter(flight, keep), Added::kAlone};
    other.seat_.keep = false;  // what replaces it is newer
    take_out(other);
  }
  if (flights_.size() >= limits.flights) return {enter(flight, keep), Added::kAlone};
  flight->seat_.open = flight->seat_.was_open = true;
  flights_.emplace(flight->fingerprint()->digest, flight);
  return {enter(flight, keep), Added::kOpen};
}

Subscription FlightTable::alone(const FlightPtr& flight, bool keep) {
  const std::lock_guard lock{mutex_};
  return enter(flight, keep);
}

Subscription FlightTable::second(Flight& old,
                                 const FlightPtr& candidate,
                                 const JoinLimits& limits) {
  const std::lock_guard lock{mutex_};
  const auto found = flights_.find(old.fingerprint()->digest);
  if (found == flights_.end() || !(*found->second->fingerprint() == *old.fingerprint())) return {};
  const FlightPtr current = found->second;
  const bool keep = old.seat_.keep;
  if (current.get() != &old)
    return can_join(*current, limits) ? enter(current, keep) : Subscription{};
  if (old.seat_.second) return {};
  old.seat_.open = false;
  candidate->seat_.open = candidate->seat_.was_open = true;
  candidate->seat_.second = true;
  found->second = candidate;
  return enter(candidate, keep);
}

void FlightTable::take_out(Flight& flight) {
  if (!flight.seat_.open) return;
  flight.seat_.open = false;
  flights_.erase(flight.fingerprint()->digest);
}

void FlightTable::close(Flight& flight) {
  const std::lock_guard lock{mutex_};
  take_out(flight);
}

bool FlightTable::close_if_empty(Flight& flight) {
  const std::lock_guard lock{mutex_};
  if (flight.seat_.subscribers > 0) return false;
  take_out(flight);
  return true;
}

bool FlightTable::keeps(const Flight& flight) {
  const std::lock_guard lock{mutex_};
  return flight.seat_.keep;
}

std::size_t FlightTable::subscribers_ever(const Flight& flight) {
  const std::lock_guard lock{mutex_};
  return flight.seat_.was_open ? flight.seat_.subscribers_ever : 0;
}

void FlightTable::leave(const FlightPtr& flight) {
  subscribers_.fetch_sub(1, std::memory_order_relaxed);
  bool open = false;
  {
    const std::lock_guard lock{mutex_};
    MLXS_ASSERT(flight->seat_.subscribers > 0);
    if (--flight->seat_.subscribers > 0) return;
    open = flight->seat_.open;
  }
  flight->abandon(open);
}

}  // namespace mlxs::gateway
