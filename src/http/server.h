#pragma once

#include "base/result.h"
#include "http/limits.h"
#include "http/message.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace mlxs::http {

/// Status and fields of a streamed answer.
struct StreamHead {
  int status = 200;
  Headers headers = {};
  /// Further fields, as `render_fields` writes them: rendered once for many answers.
  std::string_view shared_fields = {};
};

/// One request being answered: what a handler is given to answer with. Either `send` once, or
/// `start_stream`, any number of `write`s, then `finish`. Used on the connection's event loop only;
/// valid until the handler's coroutine ends.
/// A handler that ends without answering yields 500; one that ends inside a stream cuts it (the
/// connection is closed without the final chunk, so the client sees a truncated body).
class Exchange {
 public:
  virtual ~Exchange() = default;

  [[nodiscard]] virtual const Request& request() const = 0;

  /// Sends a whole answer. An error means that the client is gone or too slow.
  /// Pass a named Response: GCC 12 destroys an aggregate written inside a co_await expression
  /// twice.
  virtual boost::asio::awaitable<Result<void>> send(Response response) = 0;

  /// Sends the head of a chunked answer (HTTP/1.0 clients: until close) and, in the same write,
  /// `bytes` as `write` does; none if empty.
  virtual boost::asio::awaitable<Result<void>> start_stream(StreamHead head,
                                                            std::string_view bytes) = 0;
  boost::asio::awaitable<Result<void>> start_stream(int status, Headers headers) {
    return start_stream(StreamHead{.status = status, .headers = std::move(headers)}, {});
  }
  /// Sends `bytes` as one chunk, waiting until the kernel took all of them. kCancelled when the
  /// client left, kRequestTimeout when it took nothing for `Limits::write_stall`.
  virtual boost::asio::awaitable<Result<void>> write(std::string_view bytes) = 0;
  /// Sends `bytes` as `write` does, none if empty, and with them the stream's end; the connection
  /// can then serve the next request.
  virtual boost::asio::awaitable<Result<void>> finish(std::string_view bytes) = 0;
  boost::asio::awaitable<Result<void>> finish() { return finish({}); }

  /// Calls `callback` once, on this loop, if the client closes or resets the connection while the
  /// handler runs, also while it awaits something else; on the loop's next turn if that has
  /// happened already. A client that has only closed its sending side counts as gone, too; `send`
  /// still reaches it, `write` does not. With the client's next request already received, its
  /// leaving shows only in a failed write. Replaces an earlier callback; an empty one removes it.
  virtual void on_client_gone(std::function<void()> callback) = 0;
  [[nodiscard]] virtual bool client_gone() const = 0;

  /// Status sent (0 while none), and body bytes sent; for the access log.
  [[nodiscard]] virtual int status_sent() const = 0;
  [[nodiscard]] virtual std::uint64_t bytes_sent() const = 0;
};

/// Answers one request. Exceptions that leave it are logged and answered 500.
using Handler = std::function<boost::asio::awaitable<void>(Exchange&)>;

/// Builds the answer for failures met before a handler exists (malformed head, 408, 413, 431,
/// connection caps 503), so that the product's error shape is used there too.
using ErrorRenderer = std::function<Response(const Error&)>;

/// What a server counts; read from any thread.
struct ServerStats {
  std::uint64_t connections_accepted = 0;
  std::uint64_t connections_open = 0;
  std::uint64_t connections_refused = 0;  ///< Over a cap.
  std::uint64_t requests = 0;             ///< Whose head was complete and well formed.
  std::uint64_t requests_rejected = 0;    ///< Malformed, over a limit or too slow: no handler ran.
};

/// HTTP/1.1 server on one event loop. Several servers, one a loop, may share one listening
/// descriptor. All members on the loop's thread unless said otherwise.
/// Rules: keep-alive and pipelining; `Expect: 100-continue`; no request with both content-length
/// and transfer-encoding; a body over its limit gets its 413 and a lingering close, so that the
/// client reads it; every wait has a time limit from `Limits`.
class Server {
 public:
  /// `listener` is a listening descriptor, borrowed: it is duplicated, never closed or shut down.
  Server(boost::asio::io_context& loop,
         int listener,
         Limits limits,
         Handler handler,
         ErrorRenderer render_error);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Begins to accept.
  void start();
  /// Stops accepting and closes idle connections; running requests go on, with `connection: close`.
  void drain();
  /// Closes everything now.
  void stop();
  /// Requests being answered.
  [[nodiscard]] std::size_t active() const;
  /// Takes effect for connections accepted from now on.
  void set_limits(const Limits& limits);
  [[nodiscard]] ServerStats stats() const;  // any thread

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace mlxs::http
