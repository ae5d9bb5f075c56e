#include "worker/metrics.h"

namespace mlxs::worker {
namespace {

using Buckets = std::vector<double>;

const Buckets kFirstToken{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                          1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
// vLLM's begin at 10 ms; small models need the steps below.
const Buckets kInterToken{.001, .002, .005, .01, .025, .05, .075, .1, .15, .2, .3,
                          .4,   .5,   .75,  1,   2.5,  5,   7.5,  10, 20,  40, 80};
const Buckets kRequest{.05, .1, .3, .5, .8, 1,   1.5, 2,   2.5, 5,    10,  15,
                       20,  30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
const Buckets kTokens{
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
const Buckets kStepTokens{1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
const Buckets kStep{
    .0005, .001, .002, .005, .01, .02, .03, .05, .075, .1, .12, .15, .25, .5, 1, 2.5, 5, 10};
const Buckets kBatch{1, 2, 4, 8, 16, 32, 64, 128, 256};

/// Adds what a counter of the engine's has gained since the last look.
void advance(telemetry::Counter& counter, std::uint64_t& last, std::uint64_t now) {
  counter.add(now - last);
  last = now;
}

}  // namespace

Metrics::Metrics(const std::string& model)
    : labels_{{"model_name", model}, {"engine", "0"}},
      time_to_first_token(registry_.histogram("vllm:time_to_first_token_seconds",
                                              "From the request's head to its first token.",
                                              kFirstToken,
                                              labels_)),
      inter_token(registry_.histogram("vllm:inter_token_latency_seconds",
                                      "Between two tokens of an answer.",
                                      kInterToken,
                                      labels_)),
      request_seconds(registry_.histogram("vllm:e2e_request_latency_seconds",
                                          "From the request's head to the end of its generation.",
                                          kRequest,
                                          labels_)),
      request_prompt_tokens(registry_.histogram(
          "vllm:request_prompt_tokens", "Prompt tokens of finished requests.", kTokens, labels_)),
      request_generation_tokens(registry_.histogram("vllm:request_generation_tokens",
                                                    "Tokens drawn for finished requests.",
                                                    kTokens,
                                                    labels_)),
      step_seconds(registry_.histogram(
          "mlx_step_seconds", "Time of one forward pass.", kStep, {{"model", model}})),
      step_tokens(registry_.histogram("vllm:iteration_tokens_total",
                                      "Tokens in one forward pass, prefill and decode together.",
                                      kStepTokens,
                                      labels_)),
      batch_size(registry_.histogram(
          "mlx_batch_size", "Rows in one forward pass.", kBatch, {{"model", model}})),
      load_seconds(registry_.gauge(
          "mlx_model_load_seconds", "Time the model took to load.", {{"model", model}})),
      running_(registry_.gauge("vllm:num_requests_running", "Sequences in the batch.", labels_)),
      waiting_(
          registry_.gauge("vllm:num_requests_waiting", "Sequences that wait for a row.", labels_)),
      kv_usage_(registry_.gauge(
          "vllm:kv_cache_usage_perc", "Share of key/value blocks in use, 0 to 1.", labels_)),
      prompt_tokens_(
          registry_.counter("vllm:prompt_tokens_total", "Prompt tokens prefilled.", labels_)),
      generation_tokens_(
          registry_.counter("vllm:generation_tokens_total", "Tokens drawn.", labels_)),
      preemptions_(registry_.counter(
          "vllm:num_preemptions_total", "Sequences put back for want of blocks.", labels_)),
      prefix_queries_(registry_.counter("vllm:prefix_cache_queries_total",
                                        "Prompt tokens looked up in the prefix cache.",
                                        labels_)),
      prefix_hits_(registry_.counter(
          "vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", labels_)),
      blocks_cached_(registry_.gauge("mlx_prefix_cache_blocks",
                                     "Key/value blocks that the prefix cache can find.",
                                     {{"model", model}})),
      window_blocks_used_(registry_.gauge("mlx_window_blocks_used",
                                          "Blocks in use of layers with sliding windows.",
                                          {{"model", model}})) {}

void Metrics::count_finished(std::string_view reason) {
  telemetry::Labels labels = labels_;
  labels.emplace_back("finished_reason", reason);
  registry_.counter("vllm:request_success_total", "Requests that ended, by how they ended.", labels)
      .add();
}

void Metrics::count_rejected(ErrorCode code) {
  registry_
      .counter("mlx_rejected_total",
               "Requests answered with an error.",
               {{"reason", std::string{error_info(code).label}}})
      .add();
}

void Metrics::set_engine(const engine::EngineStats& stats) {
  running_.set(stats.running);
  waiting_.set(stats.waiting);
  const double used = stats.blocks_total - stats.blocks_free;
  kv_usage_.set(stats.blocks_total == 0 ? 0 : used / stats.blocks_total);
  advance(prompt_tokens_, last_.prompt_tokens, stats.prompt_tokens);
  advance(generation_tokens_, last_.completion_tokens, stats.completion_tokens);
  advance(preemptions_, last_.preemptions, stats.preemptions);
  advance(prefix_queries_, last_.prefix_queries, stats.prefix_queries);
  advance(prefix_hits_, last_.prefix_hits, stats.prefix_hits);
  blocks_cached_.set(stats.blocks_cached);
  window_blocks_used_.set(stats.window_blocks_total - stats.window_blocks_free);
}

}  // namespace mlxs::worker
