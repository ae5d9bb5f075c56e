#pragma once

#include "api/render.h"
#include "base/deadline.h"
#include "gateway/flight/flight.h"
#include "gateway/request_scope.h"
#include "http/server.h"

#include <boost/asio/awaitable.hpp>

namespace mlxs::gateway {

/// How one client wants a flight's answer.
struct AnswerPlan {
  api::AnswerHead head;
  bool with_usage = false;
  bool with_token_ids = false;
  Deadline deadline;
  Milliseconds keep_alive{15'000};  ///< Without an event: send the head, then a comment.
};

/// Renders the flight's log as server-sent events while it grows. The head waits for the first
/// event, the end, or `keep_alive`; an error before it gets its own status, one after it becomes a
/// typed event and the end of the stream, without [DONE]. All events that are there when the client
/// can take more share one write. Stops the flight when the client's deadline passes. Returns when
/// everything is sent or the client is gone. References outlive the coroutine.
boost::asio::awaitable<void> send_stream(http::Exchange& exchange,
                                         RequestScope& scope,
                                         FlightPtr flight,
                                         AnswerPlan plan);

/// Waits for the end of the flight and sends its log as one JSON answer, or its error.
boost::asio::awaitable<void> send_whole(http::Exchange& exchange,
                                        RequestScope& scope,
                                        FlightPtr flight,
                                        AnswerPlan plan);

}  // namespace mlxs::gateway
