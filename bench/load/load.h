#pragma once

#include "base/deadline.h"
#include "base/result.h"
#include "bench/load/answer.h"
#include "bench/load/histogram.h"
#include "bench/load/plan.h"
#include "bench/load/process.h"
#include "http/address.h"
#include "http/client.h"
#include "http/message.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json/object.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace mlxs::bench {

enum class Check {
  kNone,
  kEcho,   ///< The answer begins with its prompt's marker: nobody got another's.
  kEqual,  ///< Equal prompts get equal answers.
};

struct LoadOptions {
  http::Address server;
  PlanOptions plan;
  int users = 1;               ///< Closed loop: so many, each with one request at a time.
  double rate = 0;             ///< Open loop: requests a second with exponential gaps; 0: closed.
  std::uint64_t requests = 0;  ///< Ends after so many; 0: no such bound.
  double seconds = 0;          ///< Issues requests for so long after the warm-up; 0: no such bound.
  double warmup = 0;           ///< Seconds before counting begins.
  double timeout = 600;        ///< Seconds without a byte until a request counts as failed.
  Check check = Check::kNone;
  std::string answers;  ///< With kEqual: a file of answers to compare with; written if not there.
  http::Headers headers;
  std::vector<Watched> watch;
};

/// Asks one server for generations and counts what comes back. One thread, keep-alive connections.
/// A request belongs to the result when it was issued after the warm-up; tokens count as far as
/// their answer overlaps the window between warm-up and end: by the frames that came inside it, or
/// for whole answers spread evenly over the time they took.
class Load {
 public:
  explicit Load(LoadOptions options);
  /// Blocks until the last answer is in.
  [[nodiscard]] boost::json::object run();

 private:
  using Connection = std::unique_ptr<http::ClientConnection>;
  struct Exchange {
    std::uint64_t prompt = 0;
    TimePoint start;
    TimePoint first;  ///< First text; `start` while there is none.
    TimePoint last;
    int status = 0;
    bool left = false;  ///< The plan's client went away.
    int text_frames = 0;
    int window_frames = 0;  ///< Of those, the ones inside the window.
    AnswerReader answer;
    std::string failure;  ///< Empty: the transport did its part.
    std::string sharing;  ///< The answer's x-mlx-cache.
  };

  boost::asio::awaitable<void> user();
  boost::asio::awaitable<void> arrivals();
  boost::asio::awaitable<void> arrival(TimePoint due, std::uint64_t prompt);
  boost::asio::awaitable<void> clock();
  boost::asio::awaitable<void> ask(Connection& connection, Exchange& exchange);
  boost::asio::awaitable<Result<void>> read_stream(http::ClientConnection& connection,
                                                   Exchange& exchange);
  boost::asio::awaitable<Result<Connection>> connect();

  [[nodiscard]] bool more() const;
  [[nodiscard]] Deadline patience() const;
  void begin_window();
  void one_less();
  void end_window();
  void saw_text(Exchange& exchange, TimePoint now);
  void read_answers();
  void write_answers() const;
  void finish(const Exchange& exchange);
  [[nodiscard]] double tokens_in_window(const Exchange& exchange) const;
  [[nodiscard]] bool is_right(const Exchange& exchange);
  [[nodiscard]] boost::json::object report() const;

  LoadOptions options_;
  Plan plan_;
  boost::asio::io_context io_{1};
  boost::asio::steady_timer gathered_{io_};  ///< Cancelled once every user is connected.
  boost::asio::steady_timer clock_{io_};
  int gathering_ = 0;
  int running_ = 0;  ///< Coroutines that may still issue or finish a request.
  std::vector<Connection> idle_;

  std::uint64_t issued_ = 0;
  bool stopping_ = false;
  TimePoint window_start_ = TimePoint::max();
  TimePoint window_end_ = TimePoint::max();
  std::vector<ProcessUse> use_before_;
  std::vector<ProcessUse> use_after_;

  std::uint64_t counted_ = 0;  ///< Finished requests that belong to the result.
  std::uint64_t in_window_ = 0;
  std::uint64_t succeeded_ = 0;
  std::uint64_t left_ = 0;
  std::uint64_t refused_ = 0;  ///< 429 and 503.
  std::uint64_t wrong_ = 0;    ///< Answers that `check` objects to.
  std::uint64_t frames_ = 0;   ///< Text frames in the window.
  double tokens_ = 0;
  std::uint64_t prompt_tokens_ = 0;
  std::uint64_t completion_tokens_ = 0;
  std::map<std::string, std::uint64_t> failures_;
  std::map<std::string, std::uint64_t> sharing_;
  std::unordered_map<std::uint64_t, std::uint64_t> answers_;  ///< Prompt to hash, for kEqual.
  Histogram first_token_;
  Histogram first_token_at_;  ///< Since the first request was sent.
  Histogram between_tokens_;
  Histogram whole_;
  TimePoint first_sent_ = TimePoint::max();
};

}  // namespace mlxs::bench
