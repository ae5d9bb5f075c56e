#pragma once

#include "base/result.h"
#include "http/address.h"

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::cli {

/// Where an OpenAI-compatible server is.
struct ServerUrl {
  http::Address address;
  std::string prefix;  ///< Of its paths: "/v1", "/proxy/v1".
  /// "http://HOST[:PORT][/PATH][/v1]" or "unix:/path". kInvalidRequest says what was expected.
  [[nodiscard]] static Result<ServerUrl> parse(std::string_view text);
};

struct ChatMessage {
  std::string role;
  std::string content;
};

struct ChatSettings {
  ServerUrl server;
  std::string key;  ///< Empty: no authorization header.
  std::string model;
  std::optional<double> temperature;
  std::optional<int> tokens_max;
};

/// The first model that the server lists.
[[nodiscard]] Result<std::string> first_model(const ChatSettings& settings);

struct ChatAnswer {
  std::string text;          ///< As far as it came.
  bool interrupted = false;  ///< By SIGINT.
  Error error{};             ///< Message empty: none.
};
struct ChatCallbacks {
  std::function<void(std::string_view)> text;          ///< Each piece as it comes.
  std::function<void(int seconds)> waiting = nullptr;  ///< Each second without a piece.
};
/// Asks for the answer to `messages` and blocks until it is complete, broken, or interrupted by
/// SIGINT, whose handling this takes over meanwhile.
[[nodiscard]] ChatAnswer ask(const ChatSettings& settings,
                             const std::vector<ChatMessage>& messages,
                             const ChatCallbacks& callbacks);

}  // namespace mlxs::cli
