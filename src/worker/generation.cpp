#include "worker/generation.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <iterator>
#include <utility>

namespace mlxs::worker {

namespace asio = boost::asio;

namespace {

template <class T>
void append(std::vector<T>& all, std::vector<T>&& more) {
  std::move(more.begin(), more.end(), std::back_inserter(all));
}

}  // namespace

Generation::Generation(Generations& owner, asio::any_io_executor executor, Deadline deadline)
    : owner_(owner), wake_(std::move(executor), deadline.when()) {}

Generation::~Generation() { owner_.forget(*this); }

asio::awaitable<Result<std::vector<Piece>>> Generation::next() {
  while (true) {
    if (!pending_.empty()) co_return std::exchange(pending_, {});
    if (error_) co_return *error_;
    const auto [woken] = co_await wake_.async_wait(asio::as_tuple(asio::use_awaitable));
    // A cancelled wait means news; a wait that ran out means that the deadline has passed.
    if (!woken) co_return fail(ErrorCode::kDeadlineExceeded, "The request's deadline has passed.");
  }
}

void Generation::interrupt(Error error) {
  pending_.clear();
  error_ = std::move(error);
  wake_.cancel();
}

void Generation::deliver(std::size_t choice, engine::GenerationEvent&& event) {
  ended_[choice] = event.finish.has_value();
  if (error_) return;
  if (event.error) {
    // Text before it was delivered by earlier events, so nothing is lost.
    error_ = std::move(*event.error);
  } else {
    auto piece = std::ranges::find(pending_, choice, &Piece::choice);
    if (piece == pending_.end()) {
      pending_.emplace_back().choice = choice;
      piece = std::prev(pending_.end());
    }
    append(piece->token_ids, std::move(event.token_ids));
    piece->text += event.text;
    append(piece->logprobs, std::move(event.logprobs));
    append(piece->prompt_logprobs, std::move(event.prompt_logprobs));
    piece->finish = event.finish;
    piece->prompt_tokens = event.prompt_tokens;
    piece->completion_tokens = event.completion_tokens;
    piece->cached_tokens = event.cached_tokens;
  }
  wake_.cancel();
}

Result<std::unique_ptr<Generation>> Generations::submit(
    std::vector<engine::GenerationRequest> requests, int n) {
  auto generation = std::make_unique<Generation>(*this, executor_, requests.front().deadline);
  for (engine::GenerationRequest& request : requests) {
    std::vector<engine::SequenceId> ids;
    for (int k = 0; k < n; ++k) {
      ids.push_back(engine::SequenceId{next_id_++});
      by_id_.emplace(ids.back(), Place{generation.get(), generation->ids_.size()});
      generation->ids_.push_back(ids.back());
      generation->ended_.push_back(false);
    }
    if (auto queued = engine_->submit(ids, std::move(request)); !queued) {
      // Those queued before it are cancelled with the generation.
      for (int k = 0; k < n; ++k) generation->ended_.rbegin()[k] = true;
      return std::move(queued).error();
    }
  }
  return generation;
}

void Generations::deliver(std::vector<engine::GenerationEvent>&& events) {
  for (engine::GenerationEvent& event : events) {
    const auto found = by_id_.find(event.sequence);
    if (found == by_id_.end()) continue;
    const Place place = found->second;
    place.generation->deliver(place.choice, std::move(event));
  }
}

void Generations::interrupt_all(const Error& error) {
  for (const auto& [id, place] : by_id_) place.generation->interrupt(error);
}

void Generations::forget(const Generation& generation) {
  for (std::size_t choice = 0; choice < generation.ids_.size(); ++choice) {
    by_id_.erase(generation.ids_[choice]);
    if (!generation.ended_[choice] && engine_ != nullptr) engine_->cancel(generation.ids_[choice]);
  }
}

}  // namespace mlxs::worker
