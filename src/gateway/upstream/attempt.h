#pragma once

#include "api/events.h"
#include "base/deadline.h"
#include "base/error.h"
#include "gateway/flight/log.h"
#include "http/client.h"
#include "http/message.h"

#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <functional>
#include <optional>

namespace mlxs::gateway {

/// What one attempt is held to.
struct AttemptRules {
  api::Surface surface = api::Surface::kChat;
  bool native = true;
  Deadline deadline;                     ///< The flight's.
  Milliseconds first_event{600'000};     ///< From sending to the first event.
  Milliseconds token{60'000};            ///< Between two events.
  std::size_t answer_bytes = 16U << 20;  ///< Of a foreign worker's whole answer, and of one event.
};

/// How an attempt ended; no error: the answer in the log is complete.
struct AttemptEnd {
  std::optional<Error> error = {};
  /// The worker did not begin to answer: connection failed or was lost before any byte, or a native
  /// worker said that it serves nothing yet. Such an attempt may be made again elsewhere.
  bool not_started = false;
  /// Of those: the connection was lost. On a reused one that says nothing about the worker.
  bool connection_lost = false;
  std::optional<int> retry_after_s = {};  ///< As the worker asked.
};

/// Sends `request` on a connected `connection`, reads the answer (server-sent events, or a whole
/// one from a server that doesn't stream) and appends it to `log`, publishing once per read.
/// Neither finishes nor fails the log. Ends early, with kCancelled, when the log was ended by
/// someone else or the connection was closed under it. The connection stays at the end of the last
/// event; `settle` makes it reusable. Once the answer begins (status 200) no other attempt can
/// follow: `begun` is called and the request's memory given back, which for a long prompt is most
/// of what a stream costs. References outlive the coroutine.
boost::asio::awaitable<AttemptEnd> run_attempt(http::ClientConnection& connection,
                                               http::Request request,
                                               const AttemptRules& rules,
                                               Log& log,
                                               std::function<void()> begun);

/// Reads what follows a complete answer (the last chunk's trailer), briefly.
boost::asio::awaitable<void> settle(http::ClientConnection& connection);

}  // namespace mlxs::gateway
