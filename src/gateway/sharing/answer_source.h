#pragma once

#include "base/result.h"
#include "gateway/flight/log.h"
#include "gateway/loop_context.h"
#include "gateway/request_scope.h"
#include "gateway/sharing/cache_result.h"
#include "gateway/sharing/flight_table.h"
#include "gateway/sharing/policy.h"
#include "gateway/stages/model.h"
#include "http/message.h"

#include <memory>
#include <optional>

namespace mlxs::gateway {

/// Where the answer to one request comes from: a flight under way, or a kept answer.
struct AnswerSource {
  std::shared_ptr<const Log> log;
  Subscription flight;  ///< Empty for a kept answer.
  CacheResult result = CacheResult::kBypass;
  SharingRules rules;
  FingerprintPtr fingerprint;          ///< Null where nothing is shared.
  std::optional<Clock::duration> age;  ///< Of a kept answer.
  TimePoint taken_at;

  [[nodiscard]] bool shared() const {
    return result != CacheResult::kMiss && result != CacheResult::kBypass;
  }
};

/// Answers from others where the rules let it: joins an equal flight, else takes a kept answer,
/// else is admitted and starts a flight, which then is open to others. On the loop of `context`.
/// kOverloaded when limits.in_flight requests are being answered, kInvalidRequest for what
/// `read_cache_control` refuses.
[[nodiscard]] Result<AnswerSource> open_answer(LoopContext& context,
                                               const RequestScope& scope,
                                               const http::Request& request,
                                               Call&& call);

/// For a subscriber of another's flight that gave no token in models[].sharing.coalescing
/// .join_timeout_ms: moves `source` to the second flight of the key. False: it stays.
[[nodiscard]] bool open_second(LoopContext& context,
                               const RequestScope& scope,
                               const http::Request& request,
                               AnswerSource& source);

}  // namespace mlxs::gateway
