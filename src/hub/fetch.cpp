#include "hub/fetch.h"

#include "base/file_lock.h"
#include "base/log.h"
#include "hub/partial_file.h"
#include "hub/refusal.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>
#include <random>
#include <system_error>
#include <thread>
#include <utility>

namespace mlxs::hub {
namespace {

constexpr Milliseconds kCancelLook{50};
constexpr int kPiecesUnknown = 2;  // What an earlier process left; more than one.
constexpr int kChangesMax = 2;     // Of a file, while it is being fetched.

/// Waits between tries of one thing, for as long as that is sensible.
class Patience {
 public:
  explicit Patience(const FetchContext& context) : context_(context) {}

  void progressed() { failures_ = 0; }

  /// After `error`: returns it if another try cannot help, else waits. `told` is what the hub asks.
  Result<void> wait(const Error& error, std::optional<Milliseconds> told) {
    if (error.code != ErrorCode::kUnavailable) return error;
    ++failures_;
    const RetryRules& rules = context_.retries;
    if (failures_ >= rules.tries_max)
      return fail(error.code, fmt::format("{} ({} times in a row)", error.message, failures_));
    if (told && *told > rules.told_max)
      return fail(error.code,
                  fmt::format("{} and asks to wait {} s", error.message, told->count() / 1000));
    const Milliseconds pause = told ? *told : backoff(rules, failures_, random());
    spdlog::warn("{}; trying again in {} ms", error.message, pause.count());
    for (const TimePoint until = Clock::now() + pause; Clock::now() < until;) {
      if (context_.cancelled) return fail(ErrorCode::kCancelled, "[hub] stopped");
      const auto left = std::chrono::duration_cast<Milliseconds>(until - Clock::now());
      std::this_thread::sleep_for(std::clamp(left, Milliseconds{1}, kCancelLook));
    }
    return {};
  }

 private:
  double random() { return std::uniform_real_distribution<double>{0, 1}(generator_); }

  const FetchContext& context_;
  std::minstd_rand generator_{std::random_device{}()};
  int failures_ = 0;
};

std::int64_t seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Error refused(const FetchContext& context, const Reply& reply) {
  return refusal(reply, context.source, context.endpoint, context.with_token);
}

class Nothing final : public Receiver {
 public:
  Result<void> head(const Reply& /*reply*/) override { return {}; }
  Result<void> bytes(std::string_view /*bytes*/) override { return {}; }
};

class Text final : public Receiver {
 public:
  explicit Text(std::size_t bytes_max) : bytes_max_(bytes_max) {}
  Result<void> head(const Reply& /*reply*/) override {
    text.clear();
    return {};
  }
  Result<void> bytes(std::string_view bytes) override {
    if (text.size() + bytes.size() > bytes_max_)
      return fail(ErrorCode::kCorruptFile,
                  fmt::format("[hub] an answer is longer than {} bytes", bytes_max_));
    text += bytes;
    return {};
  }
  std::string text;

 private:
  std::size_t bytes_max_;
};

/// Sends `request` until it is answered with 200, 206 or, to a HEAD, a redirect.
Result<Reply> answered(const FetchContext& context,
                       Transfer& transfer,
                       const Request& request,
                       Receiver& receiver) {
  Patience patience{context};
  while (true) {
    auto reply = transfer.get(request, receiver);
    if (reply && reply->status < 400) return reply;
    const Error error = reply ? refused(context, *reply) : reply.error();
    const auto told = reply ? asked_to_wait(*reply, seconds_now()) : std::nullopt;
    MLXS_TRY(patience.wait(error, told));
  }
}

struct Range {
  std::uint64_t first = 0;
  std::optional<std::uint64_t> total;
};

/// "bytes 5-9/10"
std::optional<Range> parse_range(std::string_view text) {
  constexpr std::string_view kBytes = "bytes ";
  if (!text.starts_with(kBytes)) return std::nullopt;
  text.remove_prefix(kBytes.size());
  Range range;
  const auto first = std::from_chars(text.data(), text.data() + text.size(), range.first);
  if (first.ec != std::errc{}) return std::nullopt;
  std::uint64_t total = 0;
  if (const std::size_t slash = text.find('/'); slash != std::string_view::npos) {
    const char* const end = text.data() + text.size();
    if (std::from_chars(text.data() + slash + 1, end, total).ec == std::errc{}) range.total = total;
  }
  return range;
}

/// One file into one PartialFile, over as many transfers as that takes.
class Download final : public Receiver {
 public:
  Download(const FetchContext& context, const RemoteFile& file, PartialFile& partial)
      : context_(context), file_(file), partial_(partial), patience_(context) {
    pieces_ = partial.done() > 0 ? kPiecesUnknown : 0;
    count(static_cast<std::int64_t>(partial.done()));
  }

  /// The ETag that the hub gives the file by now, if it is not the one we came for.
  [[nodiscard]] const std::optional<RemoteFile>& changed() const { return changed_; }

  /// Takes back what was counted: the file is fetched once more.
  void uncount() { count(-static_cast<std::int64_t>(partial_.done())); }

  Result<void> run(Transfer& transfer, const std::string& url) {
    while (true) {
      MLXS_TRY(fill(transfer, url));
      if (partial_.right()) return partial_.publish();
      uncount();
      // A file made of several pieces may have got one of another version.
      if (pieces_ <= 1) {
        partial_.discard();
        return fail(ErrorCode::kCorruptFile,
                    fmt::format("[hub] {} came with another content than its hash says ({}); it "
                                "was thrown away",
                                file_.path,
                                file_.etag));
      }
      MLXS_TRY(partial_.restart());
      pieces_ = 0;
    }
  }

  Result<void> head(const Reply& reply) override {
    if (is_hash(reply.linked_etag) && reply.linked_etag != file_.etag) {
      changed_ =
          RemoteFile{.path = file_.path, .size = reply.linked_size, .etag = reply.linked_etag};
      return fail(ErrorCode::kCancelled, "[hub] another version");
    }
    if (reply.status == 206) {
      const auto range = parse_range(reply.header("content-range"));
      if (!range || range->first != partial_.done() || range->total.value_or(size()) != size())
        return begin_again("answered another range than it was asked for");
    } else if (partial_.done() > 0) {
      uncount();
      MLXS_TRY(partial_.restart());
      pieces_ = 0;
    }
    const std::string_view etag = reply.header("etag");
    if_range_ = etag.starts_with('"') ? etag : "";
    ++pieces_;
    return {};
  }

  Result<void> bytes(std::string_view bytes) override {
    if (partial_.done() + bytes.size() > size()) return begin_again("sent more than the file has");
    MLXS_TRY(partial_.append(bytes));
    patience_.progressed();
    count(static_cast<std::int64_t>(bytes.size()));
    context_.bytes_transferred.fetch_add(bytes.size(), std::memory_order_relaxed);
    return {};
  }

 private:
  [[nodiscard]] std::uint64_t size() const { return *file_.size; }

  void count(std::int64_t bytes) {
    context_.bytes_done.fetch_add(static_cast<std::uint64_t>(bytes), std::memory_order_relaxed);
  }

  Error begin_again(std::string_view why) {
    uncount();
    if (const auto emptied = partial_.restart(); !emptied) return emptied.error();
    pieces_ = 0;
    return fail(ErrorCode::kUnavailable, fmt::format("[hub] {}: the server {}", file_.path, why));
  }

  /// Until all bytes are there.
  Result<void> fill(Transfer& transfer, const std::string& url) {
    while (partial_.done() < size()) {
      const auto reply = transfer.get(
          {.url = url, .from = partial_.done(), .if_range = if_range_, .head = false}, *this);
      std::optional<Milliseconds> told;
      Error error;
      if (!reply) {
        error = reply.error();
      } else if (reply->status == 200 || reply->status == 206) {
        error = fail(ErrorCode::kUnavailable, fmt::format("[hub] {} ended early", file_.path));
      } else if (reply->status == 416) {
        error = begin_again("does not have the range that is missing");
      } else {
        error = refused(context_, *reply);
        told = asked_to_wait(*reply, seconds_now());
      }
      if (partial_.done() == size()) break;
      MLXS_TRY(patience_.wait(error, told));
    }
    return {};
  }

  const FetchContext& context_;
  const RemoteFile& file_;
  PartialFile& partial_;
  Patience patience_;
  std::string if_range_;
  int pieces_ = 0;  ///< Transfers that what is there came from.
  std::optional<RemoteFile> changed_;
};

/// Asks for what the listing did not say: a hub behind a simple mirror may not know `blobs=true`.
Result<RemoteFile> described(const FetchContext& context,
                             Transfer& transfer,
                             const RemoteFile& file,
                             const std::string& url) {
  Nothing nothing;
  const Request request{.url = url, .from = 0, .if_range = {}, .head = true};
  auto reply = answered(context, transfer, request, nothing);
  if (!reply) return reply.error();
  RemoteFile known{.path = file.path, .size = reply->linked_size, .etag = reply->linked_etag};
  std::uint64_t length = 0;
  const std::string_view text = reply->header("content-length");
  if (!known.size && reply->status == 200 &&
      std::from_chars(text.data(), text.data() + text.size(), length).ec == std::errc{})
    known.size = length;
  if (!known.size || !is_hash(known.etag))
    return fail(ErrorCode::kCorruptFile,
                fmt::format("[hub] {} does not say how long {} is and what its hash is",
                            context.endpoint,
                            file.path));
  return known;
}

bool is_complete(const std::filesystem::path& blob, std::uint64_t size) {
  std::error_code error;
  return std::filesystem::file_size(blob, error) == size && !error;
}

std::string file_url(const FetchContext& context, const RemoteFile& file) {
  return fmt::format("{}/{}/resolve/{}/{}",
                     context.endpoint,
                     context.source.repository,
                     context.commit,
                     url_path(file.path));
}

}  // namespace

Milliseconds backoff(const RetryRules& rules, int failures, double random) {
  const double whole = static_cast<double>(rules.first.count()) * std::exp2(failures - 1);
  const double capped = std::min(whole, static_cast<double>(rules.longest.count()));
  return Milliseconds{static_cast<std::int64_t>(capped * (1 - random / 2))};
}

Result<std::string> fetch(const FetchContext& context, Transfer& transfer, const RemoteFile& file) {
  const std::string& repository = context.source.repository;
  const std::string url = file_url(context, file);
  RemoteFile target = file;
  for (int change = 0; change <= kChangesMax; ++change) {
    if (!target.size || target.etag.empty()) {
      auto known = described(context, transfer, target, url);
      if (!known) return known.error();
      target = *std::move(known);
    }
    const auto lock_path = context.cache.lock(repository, target.etag);
    std::error_code error;
    std::filesystem::create_directories(lock_path.parent_path(), error);
    if (error) return io_error("make", lock_path.parent_path(), error);
    // Group-writable where the umask lets it, for a cache that several people share.
    const auto lock = FileLock::take(lock_path, 0664, context.cancelled);
    if (!lock) return lock.error();
    const auto blob = context.cache.blob(repository, target.etag);
    if (is_complete(blob, *target.size)) {
      context.bytes_done.fetch_add(*target.size, std::memory_order_relaxed);
    } else {
      auto partial = PartialFile::open(blob, target.etag, *target.size, context.cancelled);
      if (!partial) return partial.error();
      Download download{context, target, **partial};
      const auto done = download.run(transfer, url);
      if (!done && download.changed()) {
        download.uncount();
        (*partial)->discard();
        target = RemoteFile{*download.changed()};
        continue;
      }
      if (!done) return done.error();
    }
    MLXS_TRY(context.cache.link(repository, context.commit, file.path, target.etag));
    return target.etag;
  }
  return fail(ErrorCode::kCorruptFile,
              fmt::format("[hub] {} keeps changing while it is being fetched", file.path));
}

Result<std::string> fetch_text(const FetchContext& context,
                               Transfer& transfer,
                               const std::string& url,
                               std::size_t bytes_max) {
  Text text{bytes_max};
  const Request request{.url = url, .from = 0, .if_range = {}, .head = false};
  const auto reply = answered(context, transfer, request, text);
  if (!reply) return reply.error();
  return std::move(text.text);
}

}  // namespace mlxs::hub
