#pragma once

#include "base/deadline.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/error_code.hpp>

#include <array>
#include <memory>
#include <optional>
#include <string>

namespace mlxs::http {

/// A non-blocking stream socket of either family with time limits on its waits. Reads and writes
/// are tried at once and wait only when the kernel says so; then no buffer is held, so an idle
/// connection costs no memory for one. Time-outs cancel the wait and leave the socket open: what
/// follows (an answer, or a close) is the caller's choice, which `beast::basic_stream` does not
/// give. One reader and one writer at a time. Loop thread only; held by shared_ptr.
class Stream : public std::enable_shared_from_this<Stream> {
 public:
  using Socket = boost::asio::generic::stream_protocol::socket;
  using Buffers = std::array<boost::asio::const_buffer, 3>;

  enum class End {
    kDone,
    kEof,  ///< Reads only: the peer sent FIN.
    kTimeout,
    kInterrupted,  ///< `interrupt`, or cancellation of the calling coroutine.
    kClosed,       ///< `close` was called here.
    kFailed,       ///< Reset, broken pipe and their kin.
  };
  /// A connected socket, or one to `connect`.
  explicit Stream(Socket socket);

  [[nodiscard]] Socket& socket() { return socket_; }
  /// Waits for at least one byte, appends what has come (64 KiB at most) to `into`.
  boost::asio::awaitable<End> read_some(std::string& into, TimePoint deadline);
  /// Gives the kernel what it takes of `buffers` without waiting; they hold the rest. kDone when
  /// that is nothing, no end while there is more to write and nothing is wrong.
  [[nodiscard]] std::optional<End> try_write(Buffers& buffers);
  /// Takes all of `buffers` in as few system calls as the kernel allows. `stall` bounds the time
  /// without progress, `deadline` the whole.
  boost::asio::awaitable<End> write(Buffers buffers, Milliseconds stall, TimePoint deadline);
  /// Waits until the socket is ready for `type`.
  boost::asio::awaitable<End> wait(Socket::wait_type type, TimePoint deadline);

  /// Connects, for a socket not open yet, and makes it non-blocking.
  boost::asio::awaitable<End> connect(Socket::endpoint_type endpoint, TimePoint deadline);

  /// Ends the wait under way, if any.
  void interrupt();
  void close();
  /// Whether the peer has closed or reset its side and nothing it sent is left to read.
  [[nodiscard]] bool peer_closed();
  /// Whether the connection stands and nothing waits to be read: the state between two exchanges.
  [[nodiscard]] bool is_quiet();
  /// For a socket that was connected by other means.
  void set_connected();
  /// In words, after kFailed.
  [[nodiscard]] std::string reason() const { return error_.message(); }

 private:
  enum class Peek { kNothing, kBytes, kClosed };
  Peek peek();
  void limit(TimePoint deadline);
  [[nodiscard]] End end_of(const boost::system::error_code& error);
  void on_timer();

  Socket socket_;
  boost::asio::steady_timer timer_;
  TimePoint deadline_ = TimePoint::max();
  TimePoint armed_for_ = TimePoint::max();
  bool expired_ = false;
  boost::system::error_code error_;
};

}  // namespace mlxs::http
