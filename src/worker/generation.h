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

/// What one choice of a generation has produced since the generation was last asked.
struct Piece {
  std::size_t choice = 0;
  std::vector<engine::TokenId> token_ids;
  std::string text;
  std::vector<engine::TokenLogprob> logprobs;  ///< See GenerationEvent, as is the next.
  std::vector<engine::TokenLogprob> prompt_logprobs;
  std::optional<engine::FinishReason> finish;  ///< kStop or kLength: the choice's last piece.
  int prompt_tokens = 0;                       ///< Set in the last piece, as are the next two.
  int completion_tokens = 0;
  int cached_tokens = 0;
};

/// The choices of one request under way, owned by the frame of the handler that answers with them:
/// destroying it cancels those that have not ended. Choice p * n + k is the k-th of the n answers
/// to the p-th prompt. Loop thread.
class Generation {
 public:
  Generation(Generations& owner, boost::asio::any_io_executor executor, Deadline deadline);
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  [[nodiscard]] std::size_t choices() const { return ids_.size(); }
  /// Waits for pieces, at most one a choice. The error that ended a choice or that `interrupt`
  /// gave; kDeadlineExceeded when the deadline passes first, also when the engine hangs. Not to be
  /// called when every choice has had its last piece.
  boost::asio::awaitable<Result<std::vector<Piece>>> next();

  /// Ends the choices: `next` returns `error` from now on.
  void interrupt(Error error);

 private:
  friend class Generations;
  void deliver(std::size_t choice, engine::GenerationEvent&& event);

  Generations& owner_;
  boost::asio::steady_timer wake_;  ///< Expires at the deadline; cancelled to wake the handler.
  std::vector<engine::SequenceId> ids_;  ///< By choice.
  std::vector<bool> ended_;              ///< By choice: the engine has forgotten it.
  std::vector<Piece> pending_;
  std::optional<Error> error_;
};

/// All generations under way: gives each its events. Loop thread.
class Generations {
 public:
  explicit Generations(boost::asio::any_io_executor executor) : executor_(std::move(executor)) {}

  /// `engine` may be null, before it is ready and while it goes away.
  void set_engine(engine::Engine* engine) { engine_ = engine; }
  /// Queues `n` answers to each of `requests`, of which there is at least one; what Engine::submit
  /// says. The deadline is the first one's.
  [[nodiscard]] Result<std::unique_ptr<Generation>> submit(
      std::vector<engine::GenerationRequest> requests, int n);
  /// Everything that one step produced: each generation is woken once.
  void deliver(std::vector<engine::GenerationEvent>&& events);
  void interrupt_all(const Error& error);
  /// Sequences, not generations.
  [[nodiscard]] std::size_t size() const { return by_id_.size(); }

 private:
  friend class Generation;
  struct Place {
    Generation* generation = nullptr;
    std::size_t choice = 0;
  };
  void forget(const Generation& generation);

  boost::asio::any_io_executor executor_;
  engine::Engine* engine_ = nullptr;
  std::uint64_t next_id_ = 1;
  std::unordered_map<engine::SequenceId, Place> by_id_;
};

}  // namespace mlxs::worker
