#include "http/address.h"

#include "http/peer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace mlxs::http {
namespace {

using testing::HasSubstr;

std::string temporary_path(const std::string& name) {
  const auto path =
      std::filesystem::temp_directory_path() / ("mlxs_" + std::to_string(::getpid()) + "_" + name);
  std::filesystem::remove(path);
  return path.string();
}

TEST(Address, ReadsAndWritesEveryForm) {
  for (const char* text :
       {"127.0.0.1:8080", "[::1]:8080", "localhost:0", "host.example:65535", "unix:/a/b.sock"}) {
    const auto address = Address::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->to_string(), text);
  }
}

TEST(Address, SaysWhichFormIsExpected) {
  for (const char* text : {"",
                           "8080",
                           ":8080",
                           "host",
                           "host:",
                           "host:x",
                           "host:65536",
                           "host:-1",
                           "::1:80",
                           "[::1]",
                           "[x]:80",
                           "[]:80",
                           "a/b:80",
                           "http://a:80",
                           "a b:1",
                           "unix:"}) {
    const auto address = Address::parse(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().code, ErrorCode::kInvalidRequest);
    EXPECT_THAT(address.error().message, HasSubstr("expected HOST:PORT"));
  }
}

TEST(Address, RefusesAUnixPathOverTheKernelsLimit) {
  const std::string path(200, 'x');

  EXPECT_FALSE(Address::parse("unix:/" + path));
  const auto listener = listen_on({.kind = Address::Kind::kUnix, .path = "/" + path});
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().code, ErrorCode::kIo);
  EXPECT_THAT(listener.error().message, HasSubstr("expected a path of 1 to"));
}

TEST(Address, KnowsWhatOnlyThisMachineReaches) {
  for (const char* text : {"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/x"}) {
    EXPECT_TRUE(Address::parse(text)->is_loopback()) << text;
  }
  for (const char* text : {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "128.0.0.1:1", "example:1"}) {
    EXPECT_FALSE(Address::parse(text)->is_loopback()) << text;
  }
}

TEST(ListenOn, PicksAPortAndSetsCloseOnExecAndNonBlocking) {
  for (const char* text : {"127.0.0.1:0", "localhost:0"}) {
    const auto listener = listen_on(*Address::parse(text));
    ASSERT_TRUE(listener) << listener.error().message;

    EXPECT_NE(local_address(*listener)->port, 0);
    EXPECT_EQ(local_address(*listener)->host, "127.0.0.1");
    EXPECT_TRUE(::fcntl(*listener, F_GETFD) & FD_CLOEXEC);
    EXPECT_TRUE(::fcntl(*listener, F_GETFL) & O_NONBLOCK);
    ::close(*listener);
  }
}

TEST(ListenOn, SpeaksIpv6) {
  const auto listener = listen_on(*Address::parse("[::1]:0"));
  if (!listener) GTEST_SKIP() << listener.error().message;

  EXPECT_EQ(local_address(*listener)->host, "::1");
  EXPECT_TRUE(local_address(*listener)->is_loopback());
  ::close(*listener);
}

TEST(ListenOn, NamesTheAddressWhenItIsInUse) {
  const auto first = listen_on(*Address::parse("127.0.0.1:0"));
  const Address taken = *local_address(*first);

  const auto second = listen_on(taken);

  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kIo);
  EXPECT_THAT(second.error().message, HasSubstr(taken.to_string() + ": address already in use"));
  ::close(*first);
}

TEST(ListenOn, ReplacesAUnixPathThatNobodyListensOn) {
  const Address address{.kind = Address::Kind::kUnix, .path = temporary_path("stale")};
  ::close(*listen_on(address));
  ASSERT_TRUE(std::filesystem::exists(address.path));

  const auto again = listen_on(address);

  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(*local_address(*again), address);
  ::close(*again);
  std::filesystem::remove(address.path);
}

TEST(ListenOn, LeavesALivingUnixSocketAndOtherFilesAlone) {
  const Address address{.kind = Address::Kind::kUnix, .path = temporary_path("alive")};
  const auto first = listen_on(address);

  const auto second = listen_on(address);

  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("already in use"));
  ::close(*first);
  std::filesystem::remove(address.path);

  std::ofstream{address.path} << "precious";
  EXPECT_FALSE(listen_on(address));
  EXPECT_EQ(std::filesystem::file_size(address.path), 8U);
  std::filesystem::remove(address.path);
}

Peer peer_v4(const char* text) {
  sockaddr_storage name{};
  auto& v4 = reinterpret_cast<sockaddr_in&>(name);
  v4.sin_family = AF_INET;
  ::inet_pton(AF_INET, text, &v4.sin_addr);
  return peer_of(name);
}

Peer peer_v6(const char* text) {
  sockaddr_storage name{};
  auto& v6 = reinterpret_cast<sockaddr_in6&>(name);
  v6.sin6_family = AF_INET6;
  ::inet_pton(AF_INET6, text, &v6.sin6_addr);
  return peer_of(name);
}

TEST(Peer, IsLocalOverLoopbackAndUnixOnly) {
  EXPECT_TRUE(peer_v4("127.0.0.1").local);
  EXPECT_TRUE(peer_v4("127.1.2.3").local);
  EXPECT_FALSE(peer_v4("192.0.2.7").local);
  EXPECT_TRUE(peer_v6("::1").local);
  EXPECT_FALSE(peer_v6("2001:db8::1").local);
  sockaddr_storage unix_name{};
  unix_name.ss_family = AF_UNIX;
  EXPECT_TRUE(peer_of(unix_name).local);
  EXPECT_EQ(peer_of(unix_name).name, "unix");
}

TEST(Peer, CountsAMappedAddressAsIpv4) {
  EXPECT_EQ(peer_v6("::ffff:192.0.2.7").name, "192.0.2.7");
  EXPECT_FALSE(peer_v6("::ffff:192.0.2.7").local);
  EXPECT_TRUE(peer_v6("::ffff:127.0.0.1").local);
}

TEST(ConnectionCaps, BoundsAllAndEachAddressButNotLocalPeers) {
  ConnectionCaps caps;
  const Peer a{"192.0.2.1", false};
  const Peer b{"192.0.2.2", false};
  const Peer local{"127.0.0.1", true};

  EXPECT_TRUE(caps.admit(a, 5, 1));
  EXPECT_FALSE(caps.admit(a, 5, 1));
  EXPECT_TRUE(caps.admit(b, 5, 1));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(caps.admit(local, 5, 1));
  EXPECT_FALSE(caps.admit(local, 5, 1));

  caps.release(a);
  EXPECT_EQ(caps.open(), 4U);
  EXPECT_TRUE(caps.admit(a, 5, 1));
}

}  // namespace
}  // namespace mlxs::http
