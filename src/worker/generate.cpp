#include "api/render.h"
#include "api/request.h"
#include "base/ids.h"
#include "worker/answer_writer.h"
#include "worker/endpoints.h"
#include "worker/observer.h"
#include "worker/prepare.h"
#include "worker/refusal.h"

#include <chrono>
#include <string>
#include <utility>
#include <vector>

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

/// The first event decides the status; from then on an error is the stream's last event.
asio::awaitable<void> stream_answer(Reply& reply,
                                    const Job& job,
                                    AnswerWriter& writer,
                                    Generation& generation,
                                    Observer& observer) {
  http::Exchange& exchange = reply.exchange();
  api::StreamRenderer renderer{head_of(job), job.include_usage, job.want_token_ids};
  std::string out;
  bool started = false;
  while (true) {
    auto pieces = co_await generation.next();
    if (!pieces && !started) {
      observer.failed(pieces.error());
      co_await reply.fail(std::move(pieces).error());
      co_return;
    }
    if (!started) {
      auto head_sent = co_await reply.start_events();
      if (!head_sent) co_return;
      started = true;
    }
    if (pieces) {
      for (Piece& piece : *pieces) {
        observer.produced(piece);
        for (const api::Delta& delta : writer.write(piece)) renderer.append(out, delta);
      }
      if (writer.complete()) renderer.append_usage(out, writer.usage());
      if (writer.complete()) renderer.append_done(out);
    } else {
      observer.failed(pieces.error());
      if (pieces.error().code == ErrorCode::kCancelled) co_return;
      api::StreamRenderer::append_error(out, pieces.error());
    }
    if (!out.empty()) {
      auto sent = co_await exchange.write(out);
      if (!sent) co_return;
      out.clear();
    }
    if (pieces && !writer.complete()) continue;
    (void)co_await exchange.finish();
    co_return;
  }
}

asio::awaitable<void> whole_answer(Reply& reply,
                                   const Job& job,
                                   AnswerWriter& writer,
                                   Generation& generation,
                                   Observer& observer) {
  api::WholeRenderer renderer{head_of(job)};
  while (!writer.complete()) {
    auto pieces = co_await generation.next();
    if (!pieces) {
      observer.failed(pieces.error());
      co_await reply.fail(std::move(pieces).error());
      co_return;
    }
    for (Piece& piece : *pieces) {
      observer.produced(piece);
      for (const api::Delta& delta : writer.write(piece)) renderer.add(delta);
    }
  }
  http::Response response;
  response.headers.add("content-type", "application/json");
  response.body = renderer.render(writer.usage());
  co_await reply.send(std::move(response));
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
  auto generation =
      context.generations.submit(std::move(job->requests), static_cast<int>(job->best_of));
  if (!generation) {
    co_await reply.fail(std::move(generation).error());
    co_return;
  }
  context.changed.notify();
  http::Exchange& exchange = reply.exchange();
  // Wakes the handler below, whose end destroys the generation and so cancels the sequence.
  exchange.on_client_gone(
      [&owned = **generation] { owned.interrupt({ErrorCode::kCancelled, "The client left."}); });
  Observer observer{context.metrics, reply.request().arrived_at, (*generation)->choices()};
  AnswerWriter writer{context.model.codec(), *job};
  if (job->stream)
    co_await stream_answer(reply, *job, writer, **generation, observer);
  else
    co_await whole_answer(reply, *job, writer, **generation, observer);
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
