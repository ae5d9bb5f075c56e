#pragma once

#include "base/deadline.h"
#include "base/result.h"
#include "http/address.h"
#include "http/message.h"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace mlxs::http {

/// Status and headers of an answer, before its body.
struct ResponseHead {
  int status = 0;
  Headers headers;
};

/// One HTTP/1.1 connection as a client, over TCP or a unix socket; one request at a time.
/// Destroying it, or `close`, in the middle of an exchange cancels the request at the peer. Loop
/// thread only. Errors: kIo (connect or write failed), kWorkerLost (the peer closed or reset),
/// kWorkerProtocol (not HTTP, or over the bounds below), kDeadlineExceeded, kCancelled (`close`
/// was called from another coroutine).
class ClientConnection {
 public:
  static constexpr std::size_t kHeadBytesMax = 64 * 1024;

  ClientConnection(boost::asio::any_io_executor executor, Address address);
  ~ClientConnection();
  ClientConnection(const ClientConnection&) = delete;
  ClientConnection& operator=(const ClientConnection&) = delete;

  boost::asio::awaitable<Result<void>> connect(Deadline deadline);
  /// Writes `request` (adds host, content-length) and reads the answer's head.
  boost::asio::awaitable<Result<ResponseHead>> send(const Request& request, Deadline deadline);
  /// Next bytes of the body with chunking removed; empty at its end. The view lives until the next
  /// call. Each call has its own deadline.
  boost::asio::awaitable<Result<std::string_view>> read_some(Deadline deadline);
  /// The rest of the body; kWorkerProtocol beyond `bytes_max`.
  boost::asio::awaitable<Result<std::string>> read_all(std::size_t bytes_max, Deadline deadline);

  /// Aborts whatever waits (it ends with kCancelled) and closes the socket.
  void close();
  /// Whether another request may be sent: connected, last body read to its end, keep-alive agreed,
  /// and the peer has not closed (checked without blocking).
  [[nodiscard]] bool reusable();
  [[nodiscard]] const Address& address() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// One request over a connection of its own, body read whole. For probes and tools.
boost::asio::awaitable<Result<Response>> fetch(Address address,
                                               Request request,
                                               std::size_t bytes_max,
                                               Deadline deadline);

}  // namespace mlxs::http
