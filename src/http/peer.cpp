#include "http/peer.h"

#include "base/assert.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <array>
#include <cstring>

namespace mlxs::http {
namespace {

Peer peer_v4(const in_addr& address) {
  std::array<char, INET_ADDRSTRLEN> text{};
  ::inet_ntop(AF_INET, &address, text.data(), text.size());
  return {text.data(), (ntohl(address.s_addr) >> 24) == 127};
}

}  // namespace

Peer peer_of(const sockaddr_storage& name) {
  if (name.ss_family == AF_INET) {
    return peer_v4(reinterpret_cast<const sockaddr_in&>(name).sin_addr);
  }
  if (name.ss_family == AF_INET6) {
    const in6_addr& address = reinterpret_cast<const sockaddr_in6&>(name).sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&address)) {
      in_addr v4{};
      std::memcpy(&v4, address.s6_addr + 12, sizeof(v4));
      return peer_v4(v4);
    }
    std::array<char, INET6_ADDRSTRLEN> text{};
    ::inet_ntop(AF_INET6, &address, text.data(), text.size());
    return {text.data(), static_cast<bool>(IN6_IS_ADDR_LOOPBACK(&address))};
  }
  return {"unix", true};
}

bool ConnectionCaps::admit(const Peer& peer,
                           std::size_t connections_max,
                           std::size_t connections_per_address_max) {
  if (open_ >= connections_max) return false;
  if (!peer.local) {
    const auto found = by_address_.find(peer.name);
    const std::size_t open_here = found == by_address_.end() ? 0 : found->second;
    if (open_here >= connections_per_address_max) return false;
    ++by_address_[peer.name];
  }
  ++open_;
  return true;
}

void ConnectionCaps::release(const Peer& peer) {
  MLXS_ASSERT(open_ > 0);
  --open_;
  if (peer.local) return;
  const auto found = by_address_.find(peer.name);
  MLXS_ASSERT(found != by_address_.end());
  if (--found->second == 0) by_address_.erase(found);
}

}  // namespace mlxs::http
