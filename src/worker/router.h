#pragma once

#include "http/server.h"
#include "worker/context.h"

#include <boost/asio/awaitable.hpp>

namespace mlxs::worker {

/// Answers one request by the table of routes: 404 for an unknown path, 405 with `allow` for a
/// wrong method, 415 for a body that says it is not JSON.
boost::asio::awaitable<void> answer(Context& context, http::Exchange& exchange);

}  // namespace mlxs::worker
