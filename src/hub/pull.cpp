#include "hub/pull.h"

#include "base/log.h"
#include "hub/cache.h"
#include "hub/listing.h"
#include "hub/partial_file.h"
#include "hub/transfer.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <fstream>
#include <iterator>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace mlxs::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kListingBytesMax = std::size_t{64} << 20;
constexpr std::size_t kIndexBytesMax = std::size_t{64} << 20;
constexpr Milliseconds kLook{100};

std::uint64_t size_of(const RemoteFile& file) { return file.size.value_or(0); }

/// Runs `work(i)` for all i below `count` on up to `jobs` threads; the first error ends the rest.
class Parallel {
 public:
  Parallel(std::atomic<bool>& stop, const std::atomic<bool>& cancelled)
      : stop_(stop), cancelled_(cancelled) {}

  template <class MakeWorker, class Look>
  Result<void> run(std::size_t count, int jobs, const MakeWorker& make_worker, const Look& look) {
    std::vector<std::thread> threads;
    const auto wanted = std::min(count, static_cast<std::size_t>(jobs));
    running_ = wanted;
    for (std::size_t i = 0; i < wanted; ++i)
      threads.emplace_back([&] {
        auto work = make_worker();
        for (std::size_t next = 0; !stop_ && (next = next_++) < count;) note(guarded(work, next));
        leave();
      });
    wait(look);
    for (std::thread& thread : threads) thread.join();
    if (error_) return *error_;
    if (cancelled_) return fail(ErrorCode::kCancelled, "[hub] stopped");
    return {};
  }

 private:
  template <class Work>
  static Result<void> guarded(Work& work, std::size_t index) {
    try {
      return work(index);
    } catch (const std::exception& error) {
      return fail(ErrorCode::kInternal, fmt::format("[hub] {}", error.what()));
    }
  }

  void note(const Result<void>& result) {
    if (result) return;
    const std::lock_guard lock{mutex_};
    // Those that `stop_` ended have nothing to say.
    if (!error_ && !stop_) error_ = result.error();
    stop_ = true;
  }

  void leave() {
    const std::lock_guard lock{mutex_};
    --running_;
    changed_.notify_one();
  }

  template <class Look>
  void wait(const Look& look) {
    std::unique_lock lock{mutex_};
    while (!changed_.wait_for(lock, kLook, [&] { return running_ == 0; })) {
      if (cancelled_) stop_ = true;
      lock.unlock();
      look();
      lock.lock();
    }
  }

  std::atomic<bool>& stop_;
  const std::atomic<bool>& cancelled_;
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t running_ = 0;
  std::optional<Error> error_;
};

class Puller {
 public:
  Puller(const PullOptions& options, const std::atomic<bool>& cancelled)
      : options_(options),
        cancelled_(cancelled),
        cache_(options.environment.cache),
        settings_{.endpoint = options.environment.endpoint, .token = options.environment.token} {}

  Result<Pulled> run() {
    auto listing = list();
    if (!listing) return listing.error();
    commit_ = listing->commit;
    auto selection = select_files(*listing, options_.source);
    if (!selection) return selection.error();
    expect(selection->small);
    expect(selection->weights);
    MLXS_TRY(get_all(selection->small));
    if (selection->index) {
      auto weights = indexed_weights(*listing);
      if (!weights) return weights.error();
      selection->weights = *std::move(weights);
      expect(selection->weights);
    }
    MLXS_TRY(get_all(selection->weights));
    // Last, so that the revision leads to something complete at any time.
    MLXS_TRY(cache_.set_commit(options_.source, commit_));
    show();
    fs::path path = cache_.snapshot(options_.source.repository, commit_);
    if (!options_.source.file.empty()) path /= options_.source.file;
    return Pulled{.path = std::move(path),
                  .commit = commit_,
                  .files = selection->small.size() + selection->weights.size(),
                  .progress = progress()};
  }

 private:
  [[nodiscard]] FetchContext context() {
    return {.cache = cache_,
            .source = options_.source,
            .endpoint = settings_.endpoint,
            .commit = commit_,
            .with_token = !settings_.token.empty(),
            .retries = options_.retries,
            .cancelled = stop_,
            .bytes_done = done_,
            .bytes_transferred = transferred_};
  }

  Result<Listing> list() {
    Listing listing;
    const std::string url = fmt::format("{}/api/models/{}/revision/{}?blobs=true",
                                        settings_.endpoint,
                                        options_.source.repository,
                                        encoded_revision());
    const auto ask = [&] {
      return [&, shared = context(), transfer = std::make_unique<Transfer>(settings_, stop_)](
                 std::size_t) -> Result<void> {
        auto text = fetch_text(shared, *transfer, url, kListingBytesMax);
        if (!text) return text.error();
        auto parsed = parse_listing(*text);
        if (!parsed) return parsed.error();
        listing = *std::move(parsed);
        return {};
      };
    };
    MLXS_TRY(Parallel(stop_, cancelled_).run(1, 1, ask, [] {}));
    return listing;
  }

  /// A branch's slashes are part of its name there, not of the path.
  [[nodiscard]] std::string encoded_revision() const {
    std::string text;
    for (const char c : options_.source.revision)
      text += c == '/' ? std::string{"%2F"} : url_path({&c, 1});
    return text;
  }

  Result<std::vector<RemoteFile>> indexed_weights(const Listing& listing) {
    const fs::path path =
        cache_.snapshot(options_.source.repository, commit_) / "model.safetensors.index.json";
    std::error_code error;
    if (fs::file_size(path, error) > kIndexBytesMax || error)
      return fail(ErrorCode::kCorruptFile,
                  fmt::format("[hub] {} is no index of weights", path.string()));
    std::ifstream in{path, std::ios::binary};
    const std::string json{std::istreambuf_iterator<char>{in}, {}};
    return select_weights(listing, options_.source, json);
  }

  void expect(const std::vector<RemoteFile>& files) {
    for (const RemoteFile& file : files) total_ += size_of(file);
  }

  Result<void> get_all(const std::vector<RemoteFile>& files) {
    MLXS_TRY(make_room(files));
    const auto fetcher = [&] {
      return [&, shared = context(), transfer = std::make_unique<Transfer>(settings_, stop_)](
                 std::size_t index) -> Result<void> {
        const auto etag = fetch(shared, *transfer, files[index]);
        if (!etag) return etag.error();
        return {};
      };
    };
    return Parallel(stop_, cancelled_).run(files.size(), options_.jobs, fetcher, [this] {
      show();
    });
  }

  /// Says at the beginning what would else come after an hour.
  Result<void> make_room(const std::vector<RemoteFile>& files) {
    std::error_code error;
    fs::create_directories(cache_.root(), error);
    if (error) return io_error("make", cache_.root(), error);
    std::uint64_t needed = 0;
    for (const RemoteFile& file : files) needed += missing_bytes(file);
    const fs::space_info space = fs::space(cache_.root(), error);
    if (error || space.available >= needed) return {};
    return fail(ErrorCode::kIo,
                fmt::format("[hub] {} needs {:.1f} GB more, and {} has room for {:.1f} GB",
                            options_.source.to_string(),
                            static_cast<double>(needed) / 1e9,
                            cache_.root().string(),
                            static_cast<double>(space.available) / 1e9));
  }

  [[nodiscard]] std::uint64_t missing_bytes(const RemoteFile& file) const {
    if (file.etag.empty()) return size_of(file);
    const fs::path blob = cache_.blob(options_.source.repository, file.etag);
    std::error_code error;
    if (fs::file_size(blob, error) == size_of(file) && !error) return 0;
    const std::uint64_t there = fs::file_size(blob.string() + ".incomplete", error);
    return error || there > size_of(file) ? size_of(file) : size_of(file) - there;
  }

  [[nodiscard]] PullProgress progress() const {
    return {.done = done_, .total = total_, .transferred = transferred_};
  }

  void show() const {
    if (options_.on_progress) options_.on_progress(progress());
  }

  const PullOptions& options_;
  const std::atomic<bool>& cancelled_;
  const Cache cache_;
  const TransferSettings settings_;
  std::string commit_;
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> done_{0};
  std::atomic<std::uint64_t> transferred_{0};
  std::uint64_t total_ = 0;
};

Result<Pulled> offline(const PullOptions& options) {
  const Cache cache{options.environment.cache};
  const auto path = cache.find(options.source);
  if (!path)
    return fail(ErrorCode::kConfig,
                fmt::format("[hub] {0} is not in {1} and HF_HUB_OFFLINE is set: unset it, or run "
                            "`mlx-serving pull {0}` where there is a network",
                            options.source.to_string(),
                            cache.root().string()));
  return Pulled{.path = *path, .commit = *cache.commit_of(options.source)};
}

}  // namespace

Result<Pulled> pull(const PullOptions& options, const std::atomic<bool>& cancelled) {
  if (options.environment.offline) return offline(options);
  return Puller{options, cancelled}.run();
}

std::optional<Source> hub_source(const std::string& source) {
  std::error_code ignored;
  if (fs::exists(source, ignored)) return std::nullopt;
  return parse_source(source);
}

Result<fs::path> locate(const std::string& source,
                        const std::function<void(const PullProgress&)>& on_progress) {
  const auto on_hub = hub_source(source);
  if (!on_hub) return fs::path{source};
  auto environment = read_environment();
  if (!environment) return environment.error();
  if (const auto cached = Cache{environment->cache}.find(*on_hub)) return *cached;
  spdlog::info("no file or folder {}; pulling it from {}", source, environment->endpoint);
  const std::atomic<bool> never{false};
  const auto pulled =
      pull({.source = *on_hub, .environment = *environment, .on_progress = on_progress}, never);
  if (pulled) return pulled->path;
  Error error = pulled.error();
  if (error.code == ErrorCode::kNotFound || error.code == ErrorCode::kUnauthorized)
    error.message += fmt::format("; nor is there a file or folder {}", source);
  return error;
}

}  // namespace mlxs::hub
