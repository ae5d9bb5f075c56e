#pragma once

#include "api/events.h"
#include "base/result.h"
#include "engine/engine.h"
#include "http/message.h"
#include "worker/codec.h"
#include "worker/context.h"

#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <string>
#include <vector>

namespace mlxs::worker {

/// A request that is ready for the engine, and how to answer it.
struct Job {
  api::Surface surface = api::Surface::kChat;
  std::string model;
  bool stream = false;
  bool include_usage = false;
  bool want_token_ids = false;
  bool want_logprobs = false;
  std::size_t prompts = 1;                          ///< How many.
  std::size_t n = 1;                                ///< Answers to each prompt,
  std::size_t best_of = 1;                          ///< of so many that are generated.
  bool echo_only = false;                           ///< Nothing is generated.
  std::vector<std::string> echoes;                  ///< By prompt: what its answers begin with.
  std::vector<Codec::TokenIds> echo_tokens;         ///< By prompt, where logprobs of it are wanted.
  bool resumes = false;                             ///< The client has the beginning:
  std::string resumed_text;                         ///< this, and the echo.
  std::vector<engine::GenerationRequest> requests;  ///< By prompt; at least one.
};

/// Parses, checks and tokenizes a request. The model is ready. Sampling: the request's values, else
/// the model's defaults; seed: the request's, else `mlxs.seed`, else a random one; tokens: the
/// request's limit, else the rest of the context. kInvalidRequest also when it has more choices
/// than the worker runs sequences at a time. `request` outlives the call.
boost::asio::awaitable<Result<Job>> prepare(Context& context,
                                            const http::Request& request,
                                            api::Surface surface);

}  // namespace mlxs::worker
