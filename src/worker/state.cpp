#include "http/sse.h"
#include "worker/counted.h"
#include "worker/endpoints.h"
#include "worker/memory.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <unistd.h>

#include <cmath>
#include <string>

namespace mlxs::worker {
namespace {

namespace json = boost::json;

constexpr Milliseconds kAtMostEvery{50};
constexpr Milliseconds kAtLeastEvery{1'000};

double milliseconds(double seconds) { return std::round(seconds * 1e6) / 1e3; }

void add_load(json::object& state, const Model& model) {
  state["load_progress"] = model.progress();
  if (const auto fetching = model.fetching())
    state["pull"] =
        json::object{{"bytes", fetching->bytes}, {"bytes_total", fetching->bytes_total}};
}

void add_engine(json::object& state, engine::Engine& engine) {
  const engine::EngineStats stats = engine.stats();
  state["steps"] = stats.steps;
  state["running"] = stats.running;
  state["waiting"] = stats.waiting;
  state["queued_prefill_tokens"] = stats.queued_prefill_tokens;
  state["blocks_total"] = stats.blocks_total;
  state["blocks_free"] = stats.blocks_free;
  state["blocks_cached"] = stats.blocks_cached;
  state["window_blocks_total"] = stats.window_blocks_total;
  state["window_blocks_free"] = stats.window_blocks_free;
  state["prefix_queries"] = stats.prefix_queries;
  state["prefix_hits"] = stats.prefix_hits;
  state["step_ms_p50"] = milliseconds(stats.step_seconds_p50);
  state["step_ms_p95"] = milliseconds(stats.step_seconds_p95);
  state["stalled_ms"] = stats.stalled.count();
}

void add_model(json::object& state, Context& context) {
  const engine::ModelInfo& info = context.model.engine().info();
  state["context_tokens_max"] = info.context_tokens_max;
  state["weights_bytes"] = info.weights_bytes;
  state["kv_bytes"] = info.kv_bytes;
  state["buffers"] = info.buffers;
  json::object digests;
  digests["weights"] = info.weights_digest;
  digests["tokenizer"] = context.model.codec().tokenizer_digest();
  digests["template"] = context.model.codec().template_digest();
  state["digests"] = std::move(digests);
}

std::string state_json(Context& context) {
  const bool ready = context.model.ready();
  json::object state;
  state["ready"] = ready;
  state["model"] = context.options.id;
  state["pid"] = ::getpid();
  state["draining"] = context.draining;
  if (!ready) add_load(state, context.model);
  state["sequences_max"] = context.model.limits().sequences_max;
  state["waiting_max"] = context.model.limits().waiting_max;
  state["memory_bytes"] = resident_bytes();
  if (ready) {
    add_engine(state, context.model.engine());
    add_model(state, context);
  }
  return json::serialize(state);
}

}  // namespace

boost::asio::awaitable<void> state(Context& context, Reply& reply) {
  const Counted counted{context.state_streams};
  http::Exchange& exchange = reply.exchange();
  exchange.on_client_gone([&context] { context.changed.notify(); });
  auto started = co_await reply.start_events();
  if (!started) co_return;
  std::string event;
  while (!exchange.client_gone()) {
    const bool last = context.stopping;
    const TimePoint sent_at = Clock::now();
    const std::uint64_t seen = context.changed.count();
    event.clear();
    http::append_sse_data(event, state_json(context));
    auto sent = co_await exchange.write(event);
    if (!sent) co_return;
    if (last) break;
    co_await context.changed.wait(seen, sent_at + kAtLeastEvery);
    if (!context.stopping) co_await context.changed.pause(sent_at + kAtMostEvery);
  }
  exchange.on_client_gone({});
  (void)co_await exchange.finish();
}

}  // namespace mlxs::worker
