#pragma once

#include "base/deadline.h"
#include "base/result.h"
#include "hub/cache.h"
#include "hub/listing.h"
#include "hub/source.h"
#include "hub/transfer.h"

#include <atomic>
#include <cstdint>
#include <string>

namespace mlxs::hub {

/// How often, and after which waits, a transfer that broke is tried again.
struct RetryRules {
  int tries_max = 6;        ///< In a row without a byte.
  Milliseconds first{500};  ///< Doubles each time, with jitter.
  Milliseconds longest{30'000};
  Milliseconds told_max{600'000};  ///< A hub that asks for more patience than this gets none.
};

/// The wait before try `failures` + 1, of which `random` in [0, 1) takes up to half away.
[[nodiscard]] Milliseconds backoff(const RetryRules& rules, int failures, double random);

/// What all fetches of one pull share. Any thread where atomic, else constant.
struct FetchContext {
  const Cache& cache;
  const Source& source;
  std::string endpoint;
  std::string commit;
  bool with_token = false;  ///< For the words of an error.
  RetryRules retries;
  const std::atomic<bool>& cancelled;
  std::atomic<std::uint64_t>& bytes_done;         ///< Of files there are or that come; may shrink.
  std::atomic<std::uint64_t>& bytes_transferred;  ///< That really came over the wire.
};

/// Brings the contents of `file` into the cache, links it into the snapshot, and returns its ETag.
/// A broken transfer goes on where it broke, also one of an earlier process. Content whose hash is
/// wrong is thrown away: kCorruptFile. kUnavailable when the hub could not be reached for long
/// enough; kUnauthorized, kForbidden, kNotFound in words that say what to do; kIo; kCancelled.
[[nodiscard]] Result<std::string> fetch(const FetchContext& context,
                                        Transfer& transfer,
                                        const RemoteFile& file);

/// A small answer of the hub as text, tried again like a file. Same errors.
[[nodiscard]] Result<std::string> fetch_text(const FetchContext& context,
                                             Transfer& transfer,
                                             const std::string& url,
                                             std::size_t bytes_max);

}  // namespace mlxs::hub
