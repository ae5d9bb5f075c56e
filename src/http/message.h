#pragma once

#include "base/deadline.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlxs::http {

/// Header fields in order of arrival; names compare without case. Few fields, so a flat list.
class Headers {
 public:
  using Field = std::pair<std::string, std::string>;
  /// First value of `name`, or nothing.
  [[nodiscard]] std::optional<std::string_view> get(std::string_view name) const;
  void add(std::string name, std::string value);
  /// Replaces every field of that name.
  void set(std::string name, std::string value);
  [[nodiscard]] const std::vector<Field>& fields() const { return fields_; }

 private:
  std::vector<Field> fields_;
};

/// A request as the server hands it to a handler, and as the client sends it.
struct Request {
  std::string method = "GET";
  std::string target = "/";  ///< As on the wire: path, then maybe "?" and query.
  Headers headers = {};
  std::string body = {};
  std::string peer = {};      ///< Address of the client, "unix" for unix sockets.
  TimePoint arrived_at = {};  ///< When the head was complete.

  [[nodiscard]] std::string_view path() const {
    return std::string_view{target}.substr(0, target.find('?'));
  }
};

/// A whole answer. `content-length`, `date` and `connection` are added by whoever sends it.
struct Response {
  int status = 200;
  Headers headers = {};
  std::string body = {};
};

}  // namespace mlxs::http
