#pragma once

#include "gateway/testing/client.h"
#include "gateway/testing/mock_worker.h"
#include "gateway/testing/test_gateway.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace mlxs::gateway {

inline constexpr const char* kStream = R"(,"stream":true)";

using Clients = std::vector<std::unique_ptr<Client>>;

/// `count` streams of the same request, each read up to its first token, so that all have joined.
[[nodiscard]] inline Clients joined(const TestGateway& gateway,
                                    std::size_t count,
                                    const std::string& extra = kStream) {
  Clients clients;
  for (std::size_t k = 0; k < count; ++k) {
    clients.push_back(std::make_unique<Client>(gateway.api()));
    clients.back()->post("/v1/chat/completions", chat_body(extra));
  }
  for (const auto& client : clients) {
    EXPECT_EQ(client->read_head().status, 200);
    EXPECT_THAT(client->next_event().value_or(""), testing::HasSubstr("assistant"));
    EXPECT_THAT(client->next_event().value_or(""), testing::HasSubstr("Hello"));
  }
  return clients;
}

/// Everything that still comes.
[[nodiscard]] inline std::string rest_of(Client& client) {
  std::string all;
  while (const auto event = client.next_event()) all += *event;
  return all;
}

/// Says "Hello", and the rest once gate "a" is opened.
[[nodiscard]] inline Script gated() {
  using namespace script;
  return {token("Hello"), gate("a"), token(" world"), finish(), usage(3, 2), done()};
}

}  // namespace mlxs::gateway
