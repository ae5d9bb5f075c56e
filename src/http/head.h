#pragma once

#include "http/message.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace mlxs::http {

/// How an answer's head says where its body ends and what becomes of the connection.
struct HeadOptions {
  bool keep_alive = true;
  bool http_1_0 = false;  ///< The client's version.
  bool chunked = false;
  std::optional<std::size_t> content_length = {};  ///< None: chunked, or until close.
};

/// Status line and fields with the empty line behind them. Fields that frame the message
/// (`content-length`, `transfer-encoding`, `connection`) are ours: those in `headers` are skipped.
/// Line breaks inside names and values become spaces, so that no value can add a field.
/// `shared_fields` comes from `render_fields` and goes in as it is.
[[nodiscard]] std::string render_response_head(int status,
                                               const Headers& headers,
                                               const HeadOptions& options,
                                               std::string_view shared_fields = {});

/// Fields alone, under the same rules, for `shared_fields`.
[[nodiscard]] std::string render_fields(const Headers& headers);

/// Request line and fields of `request`, with `host` unless it has one and `content-length` where
/// it has a body or a method that implies one.
[[nodiscard]] std::string render_request_head(const Request& request, std::string_view host);

/// Now as an HTTP date; formatted once a second and thread.
[[nodiscard]] std::string_view http_date();

}  // namespace mlxs::http
