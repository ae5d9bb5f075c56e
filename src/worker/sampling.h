#pragma once

#include "api/request.h"
#include "base/result.h"
#include "engine/types.h"
#include "worker/context.h"

#include <boost/asio/awaitable.hpp>

namespace mlxs::worker {

/// How a request's tokens are drawn: its own values, else the model's defaults; seed: the
/// request's, else `mlxs.seed`, else a random one. `request` outlives the call.
///
/// A sequence breaker of DRY is every token whose text holds one of the breaker strings, and the
/// last token of each string, so that one that no token holds breaks, too.
boost::asio::awaitable<Result<engine::SamplingParams>> sampling_of(
    Context& context, const api::NativeRequest& request);

}  // namespace mlxs::worker
