#include "worker/answer_writer.h"

#include "worker/observer.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

namespace mlxs::worker {

AnswerWriter::AnswerWriter(const Codec& codec, const Job& job)
    : codec_(codec),
      job_(job),
      choices_(job.prompts * job.best_of, Choice{LogprobWriter{codec, job.surface}}),
      prompt_logprobs_(job.prompts),
      unfinished_(choices_.size()) {
  if (job.best_of > job.n) best_of_.emplace(job);
  if (!job.resumes) return;
  // The echo has been sent, too.
  choices_.front().begun = true;
  if (!job.echoes.empty()) choices_.front().logprobs.skip(job.echoes.front());
  choices_.front().logprobs.skip(job.resumed_text);
}

std::vector<api::Delta> AnswerWriter::write(Piece& piece) {
  if (job_.echo_only) {
    piece.token_ids.clear();
    piece.text.clear();
    piece.logprobs.clear();
    piece.finish = engine::FinishReason::kLength;
    piece.completion_tokens = 0;
  }
  std::vector<api::Delta> deltas = deltas_of(piece);
  if (!best_of_) return deltas;
  best_of_->add(piece, std::move(deltas));
  return complete() ? best_of_->best() : std::vector<api::Delta>{};
}

std::vector<api::Delta> AnswerWriter::deltas_of(Piece& piece) {
  const std::size_t prompt = piece.choice / job_.best_of;
  // They come with the first choice's first piece, and no choice has one before.
  if (!piece.prompt_logprobs.empty()) prompt_logprobs_[prompt] = std::move(piece.prompt_logprobs);
  std::vector<api::Delta> deltas;
  Choice& choice = choices_[piece.choice];
  if (!std::exchange(choice.begun, true) && !job_.echoes.empty())
    deltas.push_back(echo_of(piece.choice));

  api::Delta& delta = deltas.emplace_back();
  delta.choice = static_cast<int>(piece.choice);
  delta.text = std::move(piece.text);
  delta.token_ids = std::move(piece.token_ids);
  if (job_.want_logprobs) delta.logprobs = choice.logprobs.write(piece.logprobs);
  if (!piece.finish) return deltas;
  delta.finish_reason = finish_name(*piece.finish);
  --unfinished_;
  usage_.completion_tokens += piece.completion_tokens;
  if (piece.choice % job_.best_of != 0) return deltas;
  usage_.prompt_tokens += piece.prompt_tokens;
  usage_.cached_tokens += piece.cached_tokens;
  return deltas;
}

api::Delta AnswerWriter::echo_of(std::size_t choice) {
  const std::size_t prompt = choice / job_.best_of;
  api::Delta delta;
  delta.choice = static_cast<int>(choice);
  delta.text = job_.echoes[prompt];
  if (job_.echo_tokens.empty()) return delta;
  const Codec::TokenIds& tokens = job_.echo_tokens[prompt];
  delta.logprobs = choices_[choice].logprobs.write_prompt(
      tokens, prompt_texts(codec_, tokens, delta.text), prompt_logprobs_[prompt]);
  return delta;
}

void BestOf::add(const Piece& piece, std::vector<api::Delta>&& deltas) {
  Choice& choice = choices_[piece.choice];
  std::move(deltas.begin(), deltas.end(), std::back_inserter(choice.deltas));
  for (const engine::TokenLogprob& token : piece.logprobs) choice.logprobs += token.logprob;
  choice.tokens += piece.logprobs.size();
}

std::vector<api::Delta> BestOf::best() {
  std::vector<api::Delta> best;
  for (std::size_t prompt = 0; prompt < job_.prompts; ++prompt) {
    std::vector<std::size_t> order(job_.best_of);
    std::iota(order.begin(), order.end(), prompt * job_.best_of);
    std::ranges::stable_sort(
        order, std::ranges::greater{}, [&](std::size_t k) { return choices_[k].mean(); });
    for (std::size_t rank = 0; rank < job_.n; ++rank)
      for (api::Delta& delta : choices_[order[rank]].deltas) {
        delta.choice = static_cast<int>(prompt * job_.n + rank);
        best.push_back(std::move(delta));
      }
  }
  return best;
}

}  // namespace mlxs::worker
