#pragma once

#include "base/deadline.h"
#include "base/result.h"
#include "engine/engine.h"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace mlxs::worker {

class Generations;

/// What a generation has produced since it was last asked.
struct Piece {
  std::vector<engine::TokenId> token_ids;
  std::string text;
  std::optional<engine::FinishReason> finish;  ///< kStop or kLength: the last piece.
  int prompt_tokens = 0;                       ///< Set in the last piece, as are the next two.
  int completion_tokens = 0;
  int cached_tokens = 0;
};

/// One sequence under way, owned by the frame of the handler that answers with it: destroying it
/// cancels the sequence. Loop thread.
class Generation {
 public:
  Generation(Generations& owner,
             boost::asio::any_io_executor executor,
             engine::SequenceId id,
             Deadline deadline);
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  /// Waits for the next piece. The error that ended the sequence or that `interrupt` gave;
  /// kDeadlineExceeded when the deadline passes first, also when the engine hangs.
  boost::asio::awaitable<Result<Piece>> next();

  /// Ends the sequence: `next` returns `error` from now on.
  void interrupt(Error error);

 private:
  friend class Generations;
  void deliver(engine::GenerationEvent&& event);

  Generations& owner_;
  const engine::SequenceId id_;
  boost::asio::steady_timer wake_;  ///< Expires at the deadline; cancelled to wake the handler.
  Piece pending_;
  bool has_pending_ = false;
  bool ended_ = false;  ///< The engine has forgotten it.
  std::optional<Error> error_;
};

/// All generations under way: gives each its events. Loop thread.
class Generations {
 public:
  explicit Generations(boost::asio::any_io_executor executor) : executor_(std::move(executor)) {}

  /// `engine` may be null, before it is ready and while it goes away.
  void set_engine(engine::Engine* engine) { engine_ = engine; }
  /// Queues a sequence; what Engine::submit says, its deadline being `request.deadline`.
  [[nodiscard]] Result<std::unique_ptr<Generation>> submit(engine::GenerationRequest request);
  /// Everything that one step produced: each generation is woken once.
  void deliver(std::vector<engine::GenerationEvent>&& events);
  void interrupt_all(const Error& error);
  [[nodiscard]] std::size_t size() const { return by_id_.size(); }

 private:
  friend class Generation;
  void forget(const Generation& generation);

  boost::asio::any_io_executor executor_;
  engine::Engine* engine_ = nullptr;
  std::uint64_t next_id_ = 1;
  std::unordered_map<engine::SequenceId, Generation*> by_id_;
};

}  // namespace mlxs::worker
