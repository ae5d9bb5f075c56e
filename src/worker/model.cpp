#include "worker/model.h"

#include "worker/observed_runner.h"

#include <boost/asio/post.hpp>
#include <fmt/format.h>

#include <exception>
#include <future>
#include <stdexcept>
#include <utility>

namespace mlxs::worker {

Model::Model(boost::asio::io_context& loop,
             ModelLoader loader,
             engine::EngineLimits limits,
             Metrics& metrics)
    : loop_(loop), loader_(std::move(loader)), limits_(limits), metrics_(metrics) {}

Model::~Model() { unload(); }

void Model::load(engine::Engine::StepSink sink, std::function<void(Result<void>)> done) {
  loading_ = std::thread{[this, sink = std::move(sink), done = std::move(done)] {
    const TimePoint begin = Clock::now();
    auto loaded = std::make_shared<Result<Loaded>>(load_now(sink));
    boost::asio::post(loop_, [this, begin, loaded, done] {
      if (!*loaded) return done(loaded->error());
      codec_ = std::move((*loaded)->codec);
      engine_ = std::move((*loaded)->engine);
      metrics_.load_seconds.set(std::chrono::duration<double>(Clock::now() - begin).count());
      done({});
    });
  }};
}

Result<Model::Loaded> Model::load_now(engine::Engine::StepSink sink) {
  try {
    MLXS_TRY(fetch());
    // Text loads beside the weights, which takes about as long where those were packed before.
    std::atomic<bool> no_text{false};
    auto text = std::async(std::launch::async, [this, &no_text] {
      auto codec = loader_.load_codec();
      if (!codec) no_text = true;
      return codec;
    });
    const auto make_runner = [this, &no_text]() -> Result<std::unique_ptr<engine::Runner>> {
      const auto note = [this, &no_text](double done) {
        if (no_text) throw std::runtime_error("there will be no text");  // Weights can't help.
        progress_.store(done, std::memory_order_relaxed);
      };
      auto runner = loader_.load_runner(note);
      if (!runner) return std::move(runner).error();
      return observe(std::move(*runner), metrics_);
    };
    const auto ready = std::make_shared<const Codec*>();  // Set before anything is submitted.
    auto engine = engine::Engine::start(
        make_runner, [ready] { return (*ready)->detokenizer(); }, limits_, std::move(sink));
    auto codec = text.get();
    if (!codec) return std::move(codec).error();
    *ready = codec->get();
    if (!engine) return std::move(engine).error();
    return Loaded{std::move(*codec), std::move(*engine)};
  } catch (const std::exception& error) {
    return fail(ErrorCode::kInternal, fmt::format("[load] {}", error.what()));
  }
}

Result<void> Model::fetch() {
  if (!loader_.fetch) return {};
  auto fetched = loader_.fetch([this](FetchProgress now) {
    fetched_bytes_ = now.bytes;
    fetch_bytes_total_ = now.bytes_total;
    fetching_ = true;
  });
  fetching_ = false;
  return fetched;
}

std::optional<FetchProgress> Model::fetching() const {
  if (!fetching_) return std::nullopt;
  return FetchProgress{.bytes = fetched_bytes_, .bytes_total = fetch_bytes_total_};
}

void Model::unload() {
  if (loading_.joinable()) loading_.join();
  engine_.reset();
}

}  // namespace mlxs::worker
