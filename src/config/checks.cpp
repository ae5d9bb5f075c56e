#include "config/checks.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <limits>
#include <numeric>

namespace mlxs::config {
namespace {

// sockaddr_un::sun_path of macOS less its terminator; Linux has four bytes more.
constexpr std::size_t kUnixPathBytesMax = 103;

bool printable(std::string_view text) {
  return std::ranges::none_of(text, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
}

bool is_host_name(std::string_view host) {
  return !host.empty() && host.size() <= 253 && std::ranges::all_of(host, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '_';
  });
}

bool is_ipv6(std::string_view host) {
  return std::ranges::count(host, ':') >= 2 && std::ranges::all_of(host, [](char c) {
           return std::isxdigit(static_cast<unsigned char>(c)) != 0 || c == ':' || c == '.' ||
                  c == '%';
         });
}

std::optional<unsigned> parse_port(std::string_view text) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port > 65535) return std::nullopt;
  return port;
}

struct HostPort {
  std::string host;
  std::optional<unsigned> port;
};

/// "host", "host:80", "[::1]:80"; nothing if malformed.
std::optional<HostPort> split_host_port(std::string_view text) {
  HostPort parts;
  std::string_view rest;
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos || !is_ipv6(text.substr(1, close - 1))) return std::nullopt;
    parts.host = text.substr(1, close - 1);
    rest = text.substr(close + 1);
  } else {
    const std::size_t colon = std::min(text.find(':'), text.size());
    if (!is_host_name(text.substr(0, colon))) return std::nullopt;
    parts.host = text.substr(0, colon);
    rest = text.substr(colon);
  }
  if (rest.empty()) return parts;
  if (rest.front() != ':') return std::nullopt;
  parts.port = parse_port(rest.substr(1));
  if (!parts.port) return std::nullopt;
  return parts;
}

bool is_unix_path(std::string_view path) {
  return path.starts_with('/') && path.size() > 1 && path.size() <= kUnixPathBytesMax &&
         printable(path);
}

struct Unit {
  std::string_view name;
  std::uint64_t bytes;
};
// Rendering takes the first that divides the number.
constexpr std::array kUnits{Unit{"TiB", 1ULL << 40},
                            Unit{"GiB", 1ULL << 30},
                            Unit{"MiB", 1ULL << 20},
                            Unit{"KiB", 1ULL << 10},
                            Unit{"TB", 1'000'000'000'000},
                            Unit{"GB", 1'000'000'000},
                            Unit{"MB", 1'000'000},
                            Unit{"KB", 1'000},
                            Unit{"B", 1}};

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::optional<ListenAddress> parse_listen(std::string_view text) {
  if (text.starts_with("unix:")) {
    if (!is_unix_path(text.substr(5))) return std::nullopt;
    return ListenAddress{.loopback = true, .ephemeral = false};
  }
  const auto parts = split_host_port(text);
  if (!parts || !parts->port) return std::nullopt;
  const std::string& host = parts->host;
  const bool loopback = host == "localhost" || host == "::1" ||
                        (host.starts_with("127.") && std::ranges::all_of(host, [](char c) {
                           return c == '.' || std::isdigit(static_cast<unsigned char>(c)) != 0;
                         }));
  return ListenAddress{.loopback = loopback, .ephemeral = *parts->port == 0};
}

bool is_listen_address(std::string_view text) { return parse_listen(text).has_value(); }

bool is_worker_url(std::string_view text) {
  if (text.starts_with("unix:")) return is_unix_path(text.substr(5));
  constexpr std::string_view kHttp = "http://";
  if (!text.starts_with(kHttp)) return false;
  text.remove_prefix(kHttp.size());
  const std::size_t slash = std::min(text.find('/'), text.size());
  const auto parts = split_host_port(text.substr(0, slash));
  const std::string_view path = text.substr(slash);
  return parts && parts->port != 0U && printable(path) &&
         path.find_first_of(" ?#") == std::string_view::npos;
}

bool is_origin(std::string_view text) {
  const std::size_t colon = text.find("://");
  if (colon == std::string_view::npos || colon == 0) return false;
  return split_host_port(text.substr(colon + 3)).has_value();
}

bool is_host(std::string_view text) { return split_host_port(text).has_value(); }

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= 256 && printable(text) &&
         text.find(' ') == std::string_view::npos;
}

bool is_path(std::string_view text) {
  return !text.empty() && text.size() <= 4096 && printable(text);
}

bool is_log_level(std::string_view text) {
  constexpr std::array kLevels{"trace", "debug", "info", "warn", "error"};
  return std::ranges::find(kLevels, text) != kLevels.end();
}

bool is_compute(std::string_view text) {
  return text == "auto" || text == "float32" || text == "int8";
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (text.starts_with(' ')) text.remove_prefix(1);
  if (text.empty()) return number;
  const auto unit = std::ranges::find(kUnits, text, &Unit::name);
  if (unit == kUnits.end()) return std::nullopt;
  if (number > std::numeric_limits<std::uint64_t>::max() / unit->bytes) return std::nullopt;
  return number * unit->bytes;
}

std::string format_size(std::uint64_t bytes) {
  if (bytes == 0) return "0";
  const auto unit =
      std::ranges::find_if(kUnits, [bytes](const Unit& u) { return bytes % u.bytes == 0; });
  const std::string number = std::to_string(bytes / unit->bytes);
  return unit->bytes == 1 ? number : number + std::string{unit->name};
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  const std::size_t allowed = std::max<std::size_t>(2, word.size() / 3);
  std::size_t best = allowed + 1;
  std::string found;
  for (const std::string& candidate : candidates) {
    // A part of the word ("sequences" for "max_sequences") is as near as one letter.
    const bool part = word.size() > 3 && candidate.find(word) != std::string::npos;
    const std::size_t distance = part ? 1 : edit_distance(word, candidate);
    // A word all of whose letters changed is another word.
    if (distance < best && distance < candidate.size()) {
      best = distance;
      found = candidate;
    }
  }
  return found;
}

}  // namespace mlxs::config
