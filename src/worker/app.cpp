#include "worker/app.h"

#include "http/server.h"
#include "worker/context.h"
#include "worker/reply.h"
#include "worker/router.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>

namespace mlxs::worker {
namespace {

namespace asio = boost::asio;

constexpr Milliseconds kDrainLook{10};
constexpr Milliseconds kLastWords{1'000};  ///< For error events of what the drain cuts off.
constexpr Milliseconds kEngineLook{250};
constexpr Milliseconds kProgressAfter{1'000};
constexpr Milliseconds kProgressEvery{200};
constexpr Milliseconds kHung{1'000};

http::Limits limits_of(const Options& options) {
  http::Limits limits;
  // The gateway in front has limits of its own and adds fields to what it lets through.
  limits.body_bytes_max = 64 * 1024 * 1024;
  // One for each request that may run or wait, and some for state streams and probes.
  constexpr std::size_t kOthers = 64;
  limits.connections_max = std::max(
      limits.connections_max,
      static_cast<std::size_t>(options.sequences_max + options.waiting_max) + kOthers);
  // Its pool decides how long an idle connection is worth keeping.
  if (options.listen_fd >= 0) limits.idle = Milliseconds{3'600'000};
  return limits;
}

}  // namespace

struct App::Impl {
  Impl(Options options_in, ModelLoader loader)
      : options(std::move(options_in)),
        loop(std::make_unique<asio::io_context>(1)),
        context(std::make_unique<Context>(options, *loop, std::move(loader))) {}

  ~Impl() {
    server.reset();
    context->text_pool.join();
    context->generations.set_engine(nullptr);
    context->model.unload();
    loop.reset();  // Ends the handlers that are left, while what they refer to still exists.
    close_own_listener();
  }

  void close_own_listener() {
    if (own_listener >= 0) ::close(std::exchange(own_listener, -1));
  }

  void serve(int listener) {
    server = std::make_unique<http::Server>(
        *loop,
        listener,
        limits_of(options),
        [this](http::Exchange& exchange) { return answer(*context, exchange); },
        &render_error);
    server->start();
  }

  void load() {
    // On the engine thread: hands a whole step over to the loop at once.
    auto sink = [this](std::vector<engine::GenerationEvent>&& events) {
      asio::post(*loop, [this, events = std::move(events)]() mutable {
        context->generations.deliver(std::move(events));
        context->changed.notify();
      });
    };
    context->model.load(std::move(sink), [this](Result<void> loaded) { on_loaded(loaded); });
  }

  void on_loaded(const Result<void>& loaded) {
    loading = false;
    if (!loaded) {
      load_error = loaded.error().message;
      spdlog::error("the model {} cannot be loaded: {}", options.source, load_error);
      return end(loaded.error().code == ErrorCode::kUnavailable ? kTryAgain : kCannotLoad);
    }
    context->generations.set_engine(&context->model.engine());
    context->changed.notify();
    const engine::ModelInfo& info = context->model.engine().info();
    spdlog::info(
        "serving {}: {}, {} tokens of context, {} MiB of weights, {} MiB of key/value pool",
        options.id,
        info.architecture,
        info.context_tokens_max,
        info.weights_bytes >> 20,
        info.kv_bytes >> 20);
    asio::co_spawn(*loop, watch_engine(), asio::detached);
  }

  void end(int code) {
    exit_code = code;
    if (server) server->stop();
    loop->stop();
  }

  void stop() {
    if (std::exchange(context->draining, true)) return end(kAskedToStop);
    spdlog::info("asked to stop; {} generations under way", context->generations.size());
    context->changed.notify();
    server->drain();
    // Nobody else accepts here, so clients should be refused instead of waiting in the backlog.
    close_own_listener();
    asio::co_spawn(*loop, drain(), asio::detached);
  }

  /// Waits until no more than `left` requests are being answered.
  asio::awaitable<void> wait_for_active(bool with_state_streams, TimePoint until) {
    while (Clock::now() < until) {
      const auto streams = static_cast<std::size_t>(context->state_streams);
      if (server->active() <= (with_state_streams ? 0 : streams)) co_return;
      co_await context->changed.pause(Clock::now() + kDrainLook);
    }
  }

  asio::awaitable<void> drain() {
    co_await wait_for_active(false, Clock::now() + options.drain);
    context->generations.interrupt_all({ErrorCode::kShuttingDown, "This worker is shutting down."});
    co_await wait_for_active(false, Clock::now() + kLastWords);
    context->stopping = true;
    context->changed.notify();
    co_await wait_for_active(true, Clock::now() + kLastWords);
    end(kAskedToStop);
  }

  asio::awaitable<void> watch_engine() {
    while (!context->model.engine().stats().broken)
      co_await context->changed.pause(Clock::now() + kEngineLook);
    spdlog::critical("the engine keeps failing; this worker ends so that another takes over");
    end(kEngineBroken);
  }

  asio::awaitable<void> watch_signals() {
    asio::signal_set signals{*loop, SIGTERM, SIGINT};
    while (true) {
      const auto [failed, number] =
          co_await signals.async_wait(asio::as_tuple(asio::use_awaitable));
      if (failed) co_return;
      stop();
    }
  }

  [[nodiscard]] std::string progress_text() const {
    const auto fetching = context->model.fetching();
    if (!fetching)
      return fmt::format("loading {}: {:.0f} %", options.id, 100 * context->model.progress());
    const double share =
        fetching->bytes_total == 0
            ? 0
            : static_cast<double>(fetching->bytes) / static_cast<double>(fetching->bytes_total);
    return fmt::format("pulling {}: {:.0f} %", options.id, 100 * share);
  }

  asio::awaitable<void> draw_progress() {
    co_await context->changed.pause(Clock::now() + kProgressAfter);
    bool drawn = false;
    while (loading) {
      std::fputs(("\r\x1b[K" + progress_text()).c_str(), stderr);
      std::fflush(stderr);
      drawn = true;
      co_await context->changed.pause(Clock::now() + kProgressEvery);
    }
    if (drawn) std::fputs("\r\x1b[K", stderr);
  }

  const Options options;
  std::unique_ptr<asio::io_context> loop;
  std::unique_ptr<Context> context;
  std::unique_ptr<http::Server> server;
  int own_listener = -1;
  bool loading = true;
  std::string load_error;
  int exit_code = kAskedToStop;
};

App::App(Options options, ModelLoader loader)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(loader))) {}

App::~App() = default;

Result<http::Address> App::listen() {
  int listener = impl_->options.listen_fd;
  if (listener < 0) {
    const auto address = http::Address::parse(impl_->options.listen);
    if (!address) return address.error();
    const auto opened = http::listen_on(*address);
    if (!opened) return opened.error();
    listener = impl_->own_listener = *opened;
  }
  auto address = http::local_address(listener);
  if (address) impl_->serve(listener);
  return address;
}

void App::handle_signals() { asio::co_spawn(*impl_->loop, impl_->watch_signals(), asio::detached); }

void App::show_progress() { asio::co_spawn(*impl_->loop, impl_->draw_progress(), asio::detached); }

int App::run() {
  impl_->load();
  // Without requests nothing may be pending for a while; the loop ends by `stop` only.
  const auto work = asio::make_work_guard(*impl_->loop);
  impl_->loop->run();
  return impl_->exit_code;
}

void App::stop() {
  asio::post(*impl_->loop, [impl = impl_.get()] { impl->stop(); });
}

const std::string& App::load_error() const { return impl_->load_error; }

bool App::is_idle() const {
  if (impl_->loading) return false;
  Model& model = impl_->context->model;
  return !model.ready() || model.engine().stats().stalled < kHung;
}

}  // namespace mlxs::worker
