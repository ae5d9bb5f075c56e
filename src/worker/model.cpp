#include "worker/model.h"

#include "worker/observed_runner.h"

#include <boost/asio/post.hpp>
#include <fmt/format.h>

#include <exception>
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
    auto codec = loader_.load_codec();
    if (!codec) return std::move(codec).error();
    const auto make_runner = [this]() -> Result<std::unique_ptr<engine::Runner>> {
      const auto note = [this](double done) { progress_.store(done, std::memory_order_relaxed); };
      auto runner = loader_.load_runner(note);
      if (!runner) return std::move(runner).error();
      return observe(std::move(*runner), metrics_);
    };
    const Codec& text = **codec;
    auto engine = engine::Engine::start(
        make_runner, [&text] { return text.detokenizer(); }, limits_, std::move(sink));
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
