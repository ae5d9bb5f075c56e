#pragma once

#include "base/result.h"

#include <string>
#include <string_view>

namespace mlxs::http {

/// Where to listen or connect: "127.0.0.1:8080", "[::1]:8080", "localhost:0" or "unix:/path".
struct Address {
  enum class Kind { kTcp, kUnix };
  Kind kind = Kind::kTcp;
  std::string host = {};    ///< TCP only, without brackets.
  unsigned short port = 0;  ///< TCP only.
  std::string path = {};    ///< Unix only.

  /// kInvalidRequest with a sentence that says which form was expected.
  [[nodiscard]] static Result<Address> parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
  /// Whether only this machine can reach it: unix, 127.0.0.0/8, ::1, localhost.
  [[nodiscard]] bool is_loopback() const;
  bool operator==(const Address&) const = default;
};

/// Creates, binds and listens; returns a non-blocking descriptor (close-on-exec set) that the
/// caller owns. TCP gets SO_REUSEADDR, never SO_REUSEPORT; a unix path that nobody listens on is
/// replaced. kIo names the address and the reason ("address already in use").
[[nodiscard]] Result<int> listen_on(const Address& address, int backlog = 4096);

/// The address a listening descriptor is bound to, with its real port.
[[nodiscard]] Result<Address> local_address(int descriptor);

}  // namespace mlxs::http
