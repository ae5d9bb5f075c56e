#pragma once

#include "api/events.h"
#include "worker/context.h"
#include "worker/reply.h"

#include <boost/asio/awaitable.hpp>

namespace mlxs::worker {

// One handler for each route; each answers through `reply` exactly once.

/// POST /v1/chat/completions and /v1/completions (generate.cpp).
boost::asio::awaitable<void> chat_completions(Context& context, Reply& reply);
boost::asio::awaitable<void> completions(Context& context, Reply& reply);

/// POST /tokenize and /detokenize (tokens.cpp).
boost::asio::awaitable<void> tokenize(Context& context, Reply& reply);
boost::asio::awaitable<void> detokenize(Context& context, Reply& reply);

/// GET /v1/models and /v1/models/{id} (models.cpp). Never wait for a load.
boost::asio::awaitable<void> list_models(Context& context, Reply& reply);
boost::asio::awaitable<void> show_model(Context& context, Reply& reply);

/// GET /health and /metrics (health.cpp).
boost::asio::awaitable<void> health(Context& context, Reply& reply);
boost::asio::awaitable<void> metrics(Context& context, Reply& reply);

/// GET /internal/state: a stream of events that ends when the worker does (state.cpp).
boost::asio::awaitable<void> state(Context& context, Reply& reply);

}  // namespace mlxs::worker
