#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::config {

/// A listening address taken apart as far as the configuration has to judge it. `http/address.h`
/// is not used here because this library knows nothing of sockets.
struct ListenAddress {
  bool loopback = false;   ///< Only this machine can reach it.
  bool ephemeral = false;  ///< Port 0: any free port.
};

/// "HOST:PORT", "[IPV6]:PORT" or "unix:/path"; nothing if it is none of these.
[[nodiscard]] std::optional<ListenAddress> parse_listen(std::string_view text);

// What the values of text keys must be; each says whether `text` is.
[[nodiscard]] bool is_listen_address(std::string_view text);
[[nodiscard]] bool is_worker_url(std::string_view text);
[[nodiscard]] bool is_origin(std::string_view text);
[[nodiscard]] bool is_host(std::string_view text);
/// Not empty, without control characters or spaces, at most 256 bytes.
[[nodiscard]] bool is_name(std::string_view text);
/// Not empty, without control characters, at most 4096 bytes.
[[nodiscard]] bool is_path(std::string_view text);
[[nodiscard]] bool is_log_level(std::string_view text);
[[nodiscard]] bool is_compute(std::string_view text);

/// "512", "16KiB", "1.5 GB" is not: whole numbers with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB.
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view text);
/// The shortest spelling that `parse_size` reads back: "16KiB", "1000".
[[nodiscard]] std::string format_size(std::uint64_t bytes);

/// The candidate that `word` is a misspelling of, empty if none is near.
[[nodiscard]] std::string nearest(std::string_view word,
                                  const std::vector<std::string>& candidates);

}  // namespace mlxs::config
