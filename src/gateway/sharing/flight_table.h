#pragma once

#include "gateway/cache/epochs.h"
#include "gateway/flight/flight.h"
#include "gateway/sharing/fingerprint.h"

#include <atomic>
#include <cstddef>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace mlxs::gateway {

/// What bounds the sharing of flights. Beyond any of these a request gets a flight of its own:
/// sharing is left out, the request never fails.
struct JoinLimits {
  std::size_t subscribers = 1024;    ///< limits.subscribers, of one flight
  std::size_t flights = 1024;        ///< limits.flights, that can be joined
  std::size_t log_bytes = 4U << 20;  ///< limits.flight_log_bytes: a longer log is not joined
};

class FlightTable;

/// One request's part in a flight, which goes on as long as somebody takes part. Moved, not copied;
/// destroyed on any loop.
class Subscription {
 public:
  Subscription() = default;
  Subscription(Subscription&& other) noexcept
      : table_(other.table_), flight_(std::exchange(other.flight_, nullptr)) {}
  Subscription& operator=(Subscription&& other) noexcept;
  ~Subscription() { leave(); }

  explicit operator bool() const { return flight_ != nullptr; }
  [[nodiscard]] Flight& flight() const { return *flight_; }

 private:
  friend class FlightTable;
  Subscription(FlightTable& table, FlightPtr flight) : table_(&table), flight_(std::move(flight)) {}
  void leave();

  FlightTable* table_ = nullptr;
  FlightPtr flight_;
};

/// The flights under way that others may join, by fingerprint; one table for all loops, so that
/// equal requests meet wherever they were accepted. Any thread: one mutex, held for a look-up and a
/// comparison of canonical bytes. Lasts longer than the flights in it.
class FlightTable {
 public:
  /// `epochs` outlives it.
  explicit FlightTable(const Epochs& epochs) : epochs_(epochs) {}

  /// A part in the flight of an equal request; empty when there is none that can be joined: none
  /// under way, one that a flush has covered, full, or with too long a log. `keep`: its answer may
  /// be kept.
  [[nodiscard]] Subscription join(const Fingerprint& fingerprint,
                                  const JoinLimits& limits,
                                  bool keep);

  /// How `add` went.
  enum class Added {
    kOpen,    ///< `flight` is in the table: equal requests join it from now on.
    kJoined,  ///< An equal request was faster: the subscription is to its flight.
    kAlone,   ///< A limit was reached: `flight` runs for this request only.
  };
  /// Puts a flight that was not started yet into the table. With `replace`, one of an equal request
  /// goes on for its own subscribers and is not joined any more.
  [[nodiscard]] std::pair<Subscription, Added> add(const FlightPtr& flight,
                                                   const JoinLimits& limits,
                                                   bool keep,
                                                   bool replace);
  /// A part in a flight that nobody else can join.
  [[nodiscard]] Subscription alone(const FlightPtr& flight, bool keep);

  /// For a subscriber that waited too long for the first token of `old` (R-COAL-4). The first one's
  /// `candidate`, not started yet, becomes the second flight; the others, and new requests, join
  /// that; a second flight has no third. Started by the caller if it is what is returned. Empty:
  /// stay with `old`.
  [[nodiscard]] Subscription second(Flight& old,
                                    const FlightPtr& candidate,
                                    const JoinLimits& limits);

  /// Takes `flight` out: it is not joined any more.
  void close(Flight& flight);
  /// The same if it has no subscriber (any more); false if it has.
  [[nodiscard]] bool close_if_empty(Flight& flight);
  /// Whether its answer may be kept: some subscriber allowed that, and it was not replaced.
  [[nodiscard]] bool keeps(const Flight& flight);
  /// How many requests took part in it; 0 if it was never open to others.
  [[nodiscard]] std::size_t subscribers_ever(const Flight& flight);
  /// True once: for the first sampled answer that is shared, which is worth a line in the log.
  [[nodiscard]] bool first_sampled_share() {
    return !sampled_share_.exchange(true, std::memory_order_relaxed);
  }
  /// Requests that take part in flights now.
  [[nodiscard]] std::size_t subscribers() const {
    return subscribers_.load(std::memory_order_relaxed);
  }

 private:
  friend class Subscription;
  using Map = std::unordered_map<Sha256, FlightPtr, DigestHash>;

  [[nodiscard]] Subscription enter(const FlightPtr& flight, bool keep);
  [[nodiscard]] bool is_good(const Flight& flight, const JoinLimits& limits) const;
  [[nodiscard]] bool can_join(const Flight& flight, const JoinLimits& limits) const;
  void leave(const FlightPtr& flight);
  void take_out(Flight& flight);

  const Epochs& epochs_;
  std::mutex mutex_;
  Map flights_;
  std::atomic<std::size_t> subscribers_{0};
  std::atomic<bool> sampled_share_{false};
};

}  // namespace mlxs::gateway
