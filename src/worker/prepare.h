#pragma once

#include "api/events.h"
#include "base/result.h"
#include "engine/engine.h"
#include "http/message.h"
#include "worker/context.h"

#include <boost/asio/awaitable.hpp>

#include <string>

namespace mlxs::worker {

/// A request that is ready for the engine, and how to answer it.
struct Job {
  api::Surface surface = api::Surface::kChat;
  std::string model;
  bool stream = false;
  bool include_usage = false;
  bool want_token_ids = false;
  std::string echo;  ///< The prompt, when the answer begins with it.
  engine::GenerationRequest generation;
};

/// Parses, checks and tokenizes a request. The model is ready. Sampling: the request's values, else
/// the model's defaults; seed: the request's, else `mlxs.seed`, else a random one; tokens: the
/// request's limit, else the rest of the context. `request` outlives the call.
boost::asio::awaitable<Result<Job>> prepare(Context& context,
                                            const http::Request& request,
                                            api::Surface surface);

}  // namespace mlxs::worker
