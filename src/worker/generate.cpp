#include "api/render.h"
#include "api/request.h"
#include "base/ids.h"
#include "worker/endpoints.h"
#include "worker/observer.h"
#include "worker/prepare.h"
#include "worker/refusal.h"

#include <chrono>
#include <utility>

namespace mlxs::worker {
namespace {

namespace asio = boost::asio;

api::AnswerHead head_of(const Job& job) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return {.surface = job.surface,
          .id = random_id(job.surface == api::Surface::kChat ? "chatcmpl-" : "cmpl-"),
          .created = std::chrono::duration_cast<std::chrono::seconds>(now).count(),
          .model = job.model};
}

api::Delta delta_of(Piece& piece) {
  api::Delta delta;
  delta.text = std::move(piece.text);
  delta.token_ids = std::move(piece.token_ids);
  if (piece.finish) delta.finish_reason = finish_name(*piece.finish);
  return delta;
}

api::Usage usage_of(const Piece& piece) {
  return {.prompt_tokens = piece.prompt_tokens,
          .completion_tokens = piece.completion_tokens,
          .cached_tokens = piece.cached_tokens};
}

/// The first event decides the status; from then on an error is the stream's last event.
asio::awaitable<void> stream_answer(Reply& reply,
                                    const Job& job,
                                    Generation& generation,
                                    Observer& observer) {
  http::Exchange& exchange = reply.exchange();
  api::StreamRenderer renderer{head_of(job), job.include_usage, job.want_token_ids};
  std::string out;
  if (!job.echo.empty()) renderer.append(out, {.text = job.echo});
  bool started = false;
  while (true) {
    auto piece = co_await generation.next();
    if (!piece && !started) {
      observer.failed(piece.error());
      co_await reply.fail(std::move(piece).error());
      co_return;
    }
    if (!started) {
      auto head_sent = co_await reply.start_events();
      if (!head_sent) co_return;
      started = true;
    }
    bool last = true;
    if (piece) {
      last = piece->finish.has_value();
      observer.produced(*piece);
      renderer.append(out, delta_of(*piece));
      if (last) renderer.append_usage(out, usage_of(*piece));
      if (last) renderer.append_done(out);
    } else {
      observer.failed(piece.error());
      if (piece.error().code == ErrorCode::kCancelled) co_return;
      api::StreamRenderer::append_error(out, piece.error());
    }
    if (!out.empty()) {
      auto sent = co_await exchange.write(out);
      if (!sent) co_return;
      out.clear();
    }
    if (!last) continue;
    (void)co_await exchange.finish();
    co_return;
  }
}

asio::awaitable<void> whole_answer(Reply& reply,
                                   const Job& job,
                                   Generation& generation,
                                   Observer& observer) {
  api::WholeRenderer renderer{head_of(job)};
  if (!job.echo.empty()) renderer.add({.text = job.echo});
  while (true) {
    auto piece = co_await generation.next();
    if (!piece) {
      observer.failed(piece.error());
      co_await reply.fail(std::move(piece).error());
      co_return;
    }
    observer.produced(*piece);
    renderer.add(delta_of(*piece));
    if (!piece->finish) continue;
    http::Response response;
    response.headers.add("content-type", "application/json");
    response.body = renderer.render(usage_of(*piece));
    co_await reply.send(std::move(response));
    co_return;
  }
}

asio::awaitable<void> generate(Context& context, Reply& reply, api::Surface surface) {
  if (auto refused = generation_refusal(context)) {
    co_await reply.fail(std::move(*refused));
    co_return;
  }
  auto job = co_await prepare(context, reply.request(), surface);
  if (!job) {
    co_await reply.fail(std::move(job).error());
    co_return;
  }
  // A drain may have begun while the prompt was encoded.
  if (auto refused = refusal(context)) {
    co_await reply.fail(std::move(*refused));
    co_return;
  }
  auto generation = context.generations.submit(std::move(job->generation));
  if (!generation) {
    co_await reply.fail(std::move(generation).error());
    co_return;
  }
  context.changed.notify();
  http::Exchange& exchange = reply.exchange();
  // Wakes the handler below, whose end destroys the generation and so cancels the sequence.
  exchange.on_client_gone(
      [&owned = **generation] { owned.interrupt({ErrorCode::kCancelled, "The client left."}); });
  Observer observer{context.metrics, reply.request().arrived_at};
  if (job->stream)
    co_await stream_answer(reply, *job, **generation, observer);
  else
    co_await whole_answer(reply, *job, **generation, observer);
  exchange.on_client_gone({});
}

}  // namespace

asio::awaitable<void> chat_completions(Context& context, Reply& reply) {
  return generate(context, reply, api::Surface::kChat);
}

asio::awaitable<void> completions(Context& context, Reply& reply) {
  return generate(context, reply, api::Surface::kCompletions);
}

}  // namespace mlxs::worker
