#pragma once

#include "base/error.h"
#include "base/result.h"
#include "http/server.h"
#include "worker/context.h"

#include <boost/asio/awaitable.hpp>
#include <boost/json/object.hpp>

#include <string>
#include <string_view>

namespace mlxs::worker {

/// An exchange with the headers that every answer of ours carries: x-request-id (the client's, or
/// a fresh one), openai-processing-ms, openai-version. Lives in the handler's frame.
class Reply {
 public:
  Reply(Context& context, http::Exchange& exchange);

  [[nodiscard]] http::Exchange& exchange() { return exchange_; }
  [[nodiscard]] const http::Request& request() const { return exchange_.request(); }
  [[nodiscard]] const std::string& request_id() const { return request_id_; }

  boost::asio::awaitable<void> send(http::Response response);
  boost::asio::awaitable<void> send_json(const boost::json::object& body, int status = 200);
  /// In OpenAI's shape, with retry-after where a retry can help; counted.
  boost::asio::awaitable<void> fail(Error error);
  /// Starts a stream of events.
  boost::asio::awaitable<Result<void>> start_events();

 private:
  void add_headers(http::Headers& headers) const;

  Context& context_;
  http::Exchange& exchange_;
  std::string request_id_;
};

/// The error as an answer, with retry-after where a retry can help.
[[nodiscard]] http::Response render_error(const Error& error);

}  // namespace mlxs::worker
