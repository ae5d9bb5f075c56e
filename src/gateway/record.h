#pragma once

#include "api/events.h"
#include "base/deadline.h"
#include "base/error.h"
#include "gateway/sharing/cache_result.h"
#include "gateway/sharing/policy.h"

#include <cstdint>
#include <optional>
#include <string>

namespace mlxs::gateway {

/// What is remembered of one request when it is over: for the access log and the metrics. Never
/// prompt or answer text.
struct RequestRecord {
  TimePoint arrived_at;
  std::string request_id;
  std::string method;
  std::string path;
  int status = 0;              ///< 0: the client left before an answer began.
  std::uint64_t bytes = 0;     ///< Of the answer's body.
  std::string key;             ///< Name of the API key, empty without one.
  std::optional<Error> error;  ///< What the client was told, also in mid-stream.
  bool client_gone = false;    ///< Before all of the answer was sent.
  Milliseconds total{0};

  // Generations only.
  bool generation = false;
  bool reached_worker = false;
  api::Surface surface = api::Surface::kChat;
  std::string model;  ///< Configured models only, so that labels stay bounded.
  bool stream = false;
  std::string worker;
  int attempts = 0;
  api::Usage usage;
  std::string finish_reason;
  std::optional<std::chrono::microseconds> overhead;  ///< Arrival to upstream, waits left out.
  std::chrono::microseconds queue{0};                 ///< Parked: no ready worker, no connection.
  std::optional<std::chrono::microseconds> first_event;  ///< Arrival to the first event.
  std::optional<std::chrono::microseconds> decode;       ///< First to last event.

  // Of those that were admitted or served.
  std::optional<CacheResult> cache;  ///< What sharing did.
  SharingRules sharing;              ///< And what it was allowed to.
  std::string cache_key;             ///< The fingerprint's digest in hexadecimal, empty if none.
  std::optional<std::chrono::seconds> age;  ///< Of a kept answer.

  [[nodiscard]] bool served_from_store() const {
    return cache == CacheResult::kHit || cache == CacheResult::kDedup ||
           cache == CacheResult::kStale;
  }
};

/// The access log's line, one JSON object with its line break.
[[nodiscard]] std::string to_json_line(const RequestRecord& record);

}  // namespace mlxs::gateway
