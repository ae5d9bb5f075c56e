#pragma once

#include "base/error.h"
#include "gateway/record.h"
#include "gateway/settings.h"
#include "http/message.h"
#include "http/server.h"

#include <boost/asio/awaitable.hpp>
#include <boost/json/value.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace mlxs::gateway {

/// What a request carries through the stages on either listener.
struct RequestScope {
  RequestScope(SettingsPtr snapshot, const http::Request& request);

  SettingsPtr settings;  ///< In force when the request came; kept to its end.
  RequestRecord record;
  std::string origin;  ///< Of an allowed web page, else empty.

  /// Headers of every answer: x-request-id, openai-processing-ms, openai-version, CORS,
  /// and for generations x-mlx-cache, x-mlx-cache-key and age.
  void add_headers(http::Headers& headers) const;
  /// Of these, the ones that the streams of one flight have in common, and the request's own.
  void add_shared_headers(http::Headers& headers) const;
  void add_own_headers(http::Headers& headers) const;
};

/// Sends a whole answer with the scope's headers. The record learns if the client was gone.
boost::asio::awaitable<void> reply(http::Exchange& exchange,
                                   RequestScope& scope,
                                   http::Response response);
boost::asio::awaitable<void> reply_json(http::Exchange& exchange,
                                        RequestScope& scope,
                                        int status,
                                        boost::json::value body);
/// Sends `error` in OpenAI's shape and remembers it in the record. `allow` goes with a 405.
boost::asio::awaitable<void> reply_error(http::Exchange& exchange,
                                         RequestScope& scope,
                                         Error error,
                                         std::optional<int> retry_after_s = std::nullopt,
                                         std::string_view allow = {});

/// The answer of /ready on both listeners: 200 {"status":"ready"}, or 503 with the reason.
boost::asio::awaitable<void> reply_ready(http::Exchange& exchange,
                                         RequestScope& scope,
                                         bool any_ready,
                                         bool draining);

/// Completes the record from what `exchange` sent.
void close_record(RequestRecord& record, const http::Exchange& exchange);

}  // namespace mlxs::gateway
