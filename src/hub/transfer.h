#pragma once

#include "base/deadline.h"
#include "base/result.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace mlxs::hub {

/// One request to a hub.
struct Request {
  std::string url;
  std::uint64_t from = 0;  ///< Asks for the content from this byte on.
  std::string if_range;    ///< ...if it still has this ETag.
  bool head = false;       ///< Only the headers.
};

/// Status and headers of an answer, redirects behind it.
struct Reply {
  int status = 0;
  std::map<std::string, std::string, std::less<>> headers;  ///< Of the last hop; lower case.
  /// What the hub itself said on the way, before it sent us to another host.
  std::string linked_etag;                   ///< Without quotes; empty: nothing.
  std::optional<std::uint64_t> linked_size;  ///< Of the whole file.
  std::string error_code;                    ///< x-error-code: GatedRepo, RevisionNotFound, …
  bool from_hub = true;                      ///< The last hop was the hub's own host.
  [[nodiscard]] std::string_view header(std::string_view name) const;
};

/// Takes an answer as it comes. An error ends the transfer and is what `get` returns.
class Receiver {
 public:
  virtual ~Receiver() = default;
  /// Before the first byte of a body that is to be taken (200 or 206).
  virtual Result<void> head(const Reply& reply) = 0;
  virtual Result<void> bytes(std::string_view bytes) = 0;
};

struct TransferSettings {
  std::string endpoint;          ///< The hub; the token goes to this scheme, host and port only.
  std::string token;             ///< Empty: none.
  Milliseconds connect{10'000};  ///< Until a connection stands.
  Milliseconds stall{30'000};    ///< Without a byte; whole seconds.
};

/// A client over libcurl that keeps its connections open. One thread at a time.
class Transfer {
 public:
  /// `cancelled` outlives it.
  Transfer(TransferSettings settings, const std::atomic<bool>& cancelled);
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  /// Follows redirects; a body goes to `receiver` if the status is 200 or 206, else it is thrown
  /// away. kUnavailable when no answer came or it broke off: trying again may help.
  /// kCancelled soon after `cancelled` was set.
  [[nodiscard]] Result<Reply> get(const Request& request, Receiver& receiver);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// `path` as it stands in a URL, slashes kept.
[[nodiscard]] std::string url_path(std::string_view path);

/// How long a refusal asks to wait, in its `retry-after` (seconds, or until a date) or, with 429,
/// its `ratelimit`; nothing if it does not say. `now_s`: since 1970.
[[nodiscard]] std::optional<Milliseconds> asked_to_wait(const Reply& reply, std::int64_t now_s);

}  // namespace mlxs::hub
