#pragma once

#include "http/parser.h"
#include "http/peer.h"
#include "http/server.h"
#include "http/stream.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>

namespace mlxs::http {

class Session;

/// What a server and its sessions share; held by all of them, so a handler that outlives the
/// server still finds it. Loop thread only, but for the atomics.
struct ServerState {
  Handler handler;
  ErrorRenderer render_error;
  Limits limits;
  ConnectionCaps caps;
  std::unordered_set<Session*> sessions;  ///< Open ones, refused ones included.
  std::size_t refusals = 0;               ///< Sessions that only say 503.
  std::size_t active = 0;
  bool draining = false;
  std::atomic<std::uint64_t> connections_accepted{0};
  std::atomic<std::uint64_t> connections_open{0};
  std::atomic<std::uint64_t> connections_refused{0};
  std::atomic<std::uint64_t> requests{0};
  std::atomic<std::uint64_t> requests_rejected{0};
};

/// One accepted connection: reads a request, has it answered, and again until either side ends it.
/// It is also the `Exchange` that the handler sees. Lives as long as `run`.
class Session final : public Exchange, public std::enable_shared_from_this<Session> {
 public:
  using Exchange::finish;
  using Exchange::start_stream;
  Session(std::shared_ptr<ServerState> state, Stream::Socket socket, Peer peer);
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Serves the connection to its end; over a cap, only says so.
  static boost::asio::awaitable<void> run(std::shared_ptr<Session> self);

  /// No further requests; closes at once if between two.
  void drain();
  /// Closes now; a handler under way learns it as from a client that left.
  void stop();

  const Request& request() const override { return request_; }
  boost::asio::awaitable<Result<void>> send(Response response) override;
  boost::asio::awaitable<Result<void>> start_stream(StreamHead head,
                                                    std::string_view bytes) override;
  boost::asio::awaitable<Result<void>> write(std::string_view bytes) override;
  boost::asio::awaitable<Result<void>> finish(std::string_view bytes) override;
  void on_client_gone(std::function<void()> callback) override;
  bool client_gone() const override;
  int status_sent() const override { return status_sent_; }
  std::uint64_t bytes_sent() const override { return bytes_sent_; }

 private:
  enum class Phase { kUnanswered, kStreaming, kAnswered, kCut };
  struct Rejection {
    Error error = {};
    int status = 0;  ///< Overrules the error's own where not 0.
  };
  /// A request was read; or the connection ends, with an answer where there is a rejection.
  struct ReadEnd {
    bool complete = false;
    std::optional<Rejection> rejection = {};
  };

  boost::asio::awaitable<void> serve();
  boost::asio::awaitable<ReadEnd> read_head(RequestParser& parser);
  boost::asio::awaitable<ReadEnd> read_body(RequestParser& parser);
  boost::asio::awaitable<ReadEnd> take_length(RequestParser& parser);
  boost::asio::awaitable<ReadEnd> take_chunked(RequestParser& parser);
  /// Adds at least one byte to `in_`, with the progress that `Limits::body_stall` asks for.
  boost::asio::awaitable<Stream::End> read_body_bytes();
  boost::asio::awaitable<void> answer();
  /// Sends the answer of a rejection, after which the connection ends.
  boost::asio::awaitable<void> tell(Rejection rejection);
  boost::asio::awaitable<void> linger();
  boost::asio::awaitable<Result<void>> put(Stream::Buffers buffers);
  Result<void> settle(Stream::End end);
  /// Once in kTurns, so that a connection that never has to wait does not keep the loop to itself.
  boost::asio::awaitable<void> step_back();

  [[nodiscard]] static ReadEnd rejected(ErrorCode code, std::string message, int status = 0);
  [[nodiscard]] ReadEnd refused(HeadScanner::State state) const;
  [[nodiscard]] ReadEnd body_failed(Stream::End end) const;
  [[nodiscard]] static Error left();
  void count();
  void begin_exchange(RequestParser& parser);
  void watch();
  void lost();
  void notify_gone();
  void abort_connection();
  [[nodiscard]] bool stays() const { return keep_alive_ && !state_->draining; }

  std::shared_ptr<ServerState> state_;
  Limits limits_;
  std::shared_ptr<Stream> stream_;
  Peer peer_;
  bool admitted_ = false;
  std::string in_;  ///< Received, not yet used.

  // Of the body being read: progress asked for in the window under way.
  TimePoint window_end_;
  std::size_t window_bytes_ = 0;

  // Of the request being answered.
  Request request_;
  Phase phase_ = Phase::kUnanswered;
  bool handling_ = false;
  bool keep_alive_ = true;
  bool http_1_0_ = false;
  bool head_only_ = false;
  bool chunked_ = false;
  int status_sent_ = 0;
  std::uint64_t bytes_sent_ = 0;
  std::uint64_t exchange_ = 0;  ///< Tells the callbacks of one request from another's.
  mutable bool gone_ = false;
  std::function<void()> gone_callback_;

  bool idle_ = false;     ///< Waits for the first byte of a request.
  bool counted_ = false;  ///< In `ServerState::active`.
  bool watching_ = false;
  static constexpr unsigned kTurns = 32;
  unsigned turns_ = 0;
};

}  // namespace mlxs::http
