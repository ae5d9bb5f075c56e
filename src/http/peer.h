#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <string>
#include <unordered_map>

namespace mlxs::http {

/// Who is at the other end of an accepted connection.
struct Peer {
  std::string name;    ///< Numeric address without port; "unix" for unix sockets.
  bool local = false;  ///< From this machine over loopback or a unix socket.
};

/// IPv4 addresses mapped into IPv6 count as IPv4.
[[nodiscard]] Peer peer_of(const sockaddr_storage& name);

/// Counts open connections against the caps of `Limits`. Loop thread only.
class ConnectionCaps {
 public:
  /// False, with nothing counted, when a cap is reached. The per-address cap is for peers that are
  /// not local: behind a loopback proxy all clients share one address.
  [[nodiscard]] bool admit(const Peer& peer,
                           std::size_t connections_max,
                           std::size_t connections_per_address_max);
  /// Once for every admitted peer.
  void release(const Peer& peer);
  [[nodiscard]] std::size_t open() const { return open_; }

 private:
  std::size_t open_ = 0;
  std::unordered_map<std::string, std::size_t> by_address_;
};

}  // namespace mlxs::http
