#include "http/address.h"

#include <fmt/format.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <system_error>
#include <utility>

namespace mlxs::http {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr std::size_t kPathBytesMax = sizeof(sockaddr_un::sun_path) - 1;

Error expected_form(std::string_view text, std::string_view why) {
  return fail(
      ErrorCode::kInvalidRequest,
      fmt::format(
          "[address] expected HOST:PORT, [IPV6]:PORT or unix:PATH, came \"{}\": {}", text, why));
}

Error io_error(const Address& address, int error_number) {
  const std::string reason = error_number == EADDRINUSE
                                 ? std::string{"address already in use"}
                                 : std::generic_category().message(error_number);
  return fail(ErrorCode::kIo, fmt::format("[listen] {}: {}", address.to_string(), reason));
}

/// Closes on every way out but `release`.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

int open_socket(int family) {
  const int fd = ::socket(family, SOCK_STREAM, 0);
  if (fd >= 0) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  }
  return fd;
}

/// Removes a socket file that a dead process left behind; 0, or why the path cannot be used.
int clear_stale_path(const sockaddr_un& name) {
  struct stat info{};
  if (::lstat(name.sun_path, &info) != 0) return errno == ENOENT ? 0 : errno;
  if (!S_ISSOCK(info.st_mode)) return EEXIST;
  const Descriptor probe{open_socket(AF_UNIX)};
  if (probe.get() < 0) return errno;
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) == 0) {
    return EADDRINUSE;
  }
  if (errno == EAGAIN) return EADDRINUSE;  // Alive, with a full backlog.
  if (errno != ECONNREFUSED) return errno;
  return ::unlink(name.sun_path) == 0 ? 0 : errno;
}

Result<int> listen_unix(const Address& address, int backlog) {
  if (address.path.empty() || address.path.size() > kPathBytesMax) {
    return fail(ErrorCode::kIo,
                fmt::format("[listen] {}: expected a path of 1 to {} bytes, came {}",
                            address.to_string(),
                            kPathBytesMax,
                            address.path.size()));
  }
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, address.path.data(), address.path.size());
  if (const int error_number = clear_stale_path(name)) return io_error(address, error_number);
  Descriptor fd{open_socket(AF_UNIX)};
  if (fd.get() < 0) return io_error(address, errno);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0 ||
      ::listen(fd.get(), backlog) != 0) {
    return io_error(address, errno);
  }
  return fd.release();
}

int listen_tcp_at(const addrinfo& candidate, int backlog) {
  Descriptor fd{open_socket(candidate.ai_family)};
  if (fd.get() < 0) return -1;
  const int on = 1;
  const int off = 0;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (candidate.ai_family == AF_INET6) {
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  }
  if (::bind(fd.get(), candidate.ai_addr, candidate.ai_addrlen) != 0 ||
      ::listen(fd.get(), backlog) != 0) {
    return -1;
  }
  return fd.release();
}

Result<int> listen_tcp(const Address& address, int backlog) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(address.port);
  if (const int code = ::getaddrinfo(address.host.c_str(), port.c_str(), &hints, &found)) {
    return fail(ErrorCode::kIo,
                fmt::format("[listen] {}: {}", address.to_string(), ::gai_strerror(code)));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> guard{found, &::freeaddrinfo};
  // IPv4 first, so that "localhost" is where most clients look for it.
  int error_number = EADDRNOTAVAIL;
  for (const int family : {AF_INET, AF_INET6}) {
    for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
      if (at->ai_family != family) continue;
      const int fd = listen_tcp_at(*at, backlog);
      if (fd >= 0) return fd;
      error_number = errno;
    }
  }
  return io_error(address, error_number);
}

}  // namespace

Result<Address> Address::parse(std::string_view text) {
  Address address;
  if (text.starts_with(kUnixPrefix)) {
    address.kind = Kind::kUnix;
    address.path = text.substr(kUnixPrefix.size());
    if (address.path.empty()) return expected_form(text, "the path is empty");
    if (address.path.size() > kPathBytesMax) {
      return expected_form(text, fmt::format("the path is over {} bytes", kPathBytesMax));
    }
    return address;
  }
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return expected_form(text, "there is no port");
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  const bool bracketed = host.size() > 2 && host.starts_with('[') && host.ends_with(']');
  if (bracketed) {
    host = host.substr(1, host.size() - 2);
    std::array<unsigned char, sizeof(in6_addr)> parsed{};
    if (::inet_pton(AF_INET6, std::string{host}.c_str(), parsed.data()) != 1) {
      return expected_form(text, "what stands in brackets is no IPv6 address");
    }
  } else if (host.empty() || host.find_first_of("[]:/ ") != std::string_view::npos) {
    return expected_form(text, "the host is empty or holds characters that no host name has");
  }
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (error != std::errc{} || end != port.data() + port.size()) {
    return expected_form(text, "the port is not a number from 0 to 65535");
  }
  address.host = host;
  return address;
}

std::string Address::to_string() const {
  if (kind == Kind::kUnix) return std::string{kUnixPrefix} + path;
  if (host.find(':') != std::string::npos) return fmt::format("[{}]:{}", host, port);
  return fmt::format("{}:{}", host, port);
}

bool Address::is_loopback() const {
  if (kind == Kind::kUnix || host == "localhost") return true;
  in_addr v4{};
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  return ::inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

Result<int> listen_on(const Address& address, int backlog) {
  if (address.kind == Address::Kind::kUnix) return listen_unix(address, backlog);
  return listen_tcp(address, backlog);
}

Result<Address> local_address(int descriptor) {
  sockaddr_storage name{};
  socklen_t size = sizeof(name);
  if (::getsockname(descriptor, reinterpret_cast<sockaddr*>(&name), &size) != 0) {
    return fail(ErrorCode::kIo, "[address] " + std::generic_category().message(errno));
  }
  Address address;
  std::array<char, INET6_ADDRSTRLEN> text{};
  switch (name.ss_family) {
    case AF_UNIX: {
      const auto& local = reinterpret_cast<const sockaddr_un&>(name);
      address.kind = Address::Kind::kUnix;
      address.path.assign(local.sun_path, ::strnlen(local.sun_path, sizeof(local.sun_path)));
      return address;
    }
    case AF_INET: {
      const auto& local = reinterpret_cast<const sockaddr_in&>(name);
      ::inet_ntop(AF_INET, &local.sin_addr, text.data(), text.size());
      address.port = ntohs(local.sin_port);
      break;
    }
    case AF_INET6: {
      const auto& local = reinterpret_cast<const sockaddr_in6&>(name);
      ::inet_ntop(AF_INET6, &local.sin6_addr, text.data(), text.size());
      address.port = ntohs(local.sin6_port);
      break;
    }
    default:
      return fail(ErrorCode::kIo, "[address] expected a TCP or unix socket, came another kind");
  }
  address.host = text.data();
  return address;
}

}  // namespace mlxs::http
