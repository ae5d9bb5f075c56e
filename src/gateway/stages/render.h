#pragma once

#include "base/deadline.h"
#include "gateway/loop_context.h"
#include "gateway/request_scope.h"
#include "gateway/sharing/answer_source.h"
#include "http/server.h"

#include <boost/asio/awaitable.hpp>

namespace mlxs::gateway {

/// How one client wants its answer, whoever else gets the same one.
struct AnswerPlan {
  bool with_usage = false;
  bool with_token_ids = false;
  Deadline deadline;                  ///< This client's own.
  Milliseconds keep_alive{15'000};    ///< Without an event: send the head, then a comment.
  Milliseconds join_timeout{30'000};  ///< For the first token of a flight that others started.
};

/// Renders the source's log as server-sent events while it grows. The head waits for the first
/// event, the end, or `keep_alive`; an error before it gets its own status, one after it becomes a
/// typed event and the end of the stream, without [DONE]. All events that are there when the client
/// can take more share one write. A client whose deadline passes is told so; the flight goes on as
/// long as others want it. Returns when everything is sent or the client is gone. References
/// outlive the coroutine.
boost::asio::awaitable<void> send_stream(http::Exchange& exchange,
                                         LoopContext& context,
                                         RequestScope& scope,
                                         AnswerSource& source,
                                         AnswerPlan plan);

/// Waits for the end of the source's log and sends it as one JSON answer, or its error.
boost::asio::awaitable<void> send_whole(http::Exchange& exchange,
                                        LoopContext& context,
                                        RequestScope& scope,
                                        AnswerSource& source,
                                        AnswerPlan plan);

/// The usage that the source's client is told: complete, and on a shared answer with the whole
/// prompt as cached. The log has ended.
[[nodiscard]] api::Usage usage_of(const AnswerSource& source);

}  // namespace mlxs::gateway
