#include "worker/generation.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <utility>

namespace mlxs::worker {

namespace asio = boost::asio;

Generation::Generation(Generations& owner,
                       asio::any_io_executor executor,
                       engine::SequenceId id,
                       Deadline deadline)
    : owner_(owner), id_(id), wake_(std::move(executor), deadline.when()) {}

Generation::~Generation() { owner_.forget(*this); }

asio::awaitable<Result<Piece>> Generation::next() {
  while (true) {
    if (has_pending_) {
      has_pending_ = false;
      co_return std::exchange(pending_, {});
    }
    if (error_) co_return *error_;
    const auto [woken] = co_await wake_.async_wait(asio::as_tuple(asio::use_awaitable));
    // A cancelled wait means news; a wait that ran out means that the deadline has passed.
    if (!woken) co_return fail(ErrorCode::kDeadlineExceeded, "The request's deadline has passed.");
  }
}

void Generation::interrupt(Error error) {
  pending_ = {};
  has_pending_ = false;
  error_ = std::move(error);
  wake_.cancel();
}

void Generation::deliver(engine::GenerationEvent&& event) {
  ended_ = event.finish.has_value();
  if (error_) return;
  if (event.error) {
    // Text before it was delivered by earlier events, so nothing is lost.
    error_ = std::move(*event.error);
  } else {
    pending_.token_ids.insert(
        pending_.token_ids.end(), event.token_ids.begin(), event.token_ids.end());
    pending_.text += event.text;
    pending_.finish = event.finish;
    pending_.prompt_tokens = event.prompt_tokens;
    pending_.completion_tokens = event.completion_tokens;
    pending_.cached_tokens = event.cached_tokens;
    has_pending_ = true;
  }
  wake_.cancel();
}

Result<std::unique_ptr<Generation>> Generations::submit(engine::GenerationRequest request) {
  const engine::SequenceId id{next_id_++};
  auto generation = std::make_unique<Generation>(*this, executor_, id, request.deadline);
  by_id_.emplace(id, generation.get());
  if (auto queued = engine_->submit(id, std::move(request)); !queued) {
    generation->ended_ = true;
    return std::move(queued).error();
  }
  return generation;
}

void Generations::deliver(std::vector<engine::GenerationEvent>&& events) {
  for (engine::GenerationEvent& event : events) {
    const auto found = by_id_.find(event.sequence);
    if (found != by_id_.end()) found->second->deliver(std::move(event));
  }
}

void Generations::interrupt_all(const Error& error) {
  for (const auto& [id, generation] : by_id_) generation->interrupt(error);
}

void Generations::forget(const Generation& generation) {
  by_id_.erase(generation.id_);
  if (!generation.ended_ && engine_ != nullptr) engine_->cancel(generation.id_);
}

}  // namespace mlxs::worker
