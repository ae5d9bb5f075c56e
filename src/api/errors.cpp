#include "api/errors.h"

#include "api/error_read.h"
#include "base/utf8.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>

#include <utility>

namespace mlxs::api {
namespace {

namespace json = boost::json;

constexpr int kCodes = static_cast<int>(ErrorCode::kInternal) + 1;

/// First row of the table that `matches`.
template <class Predicate>
std::optional<ErrorCode> find_code(Predicate matches) {
  for (int k = 0; k < kCodes; ++k)
    if (const auto& info = error_info(static_cast<ErrorCode>(k)); matches(info)) return info.code;
  return std::nullopt;
}

std::string string_member(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value != nullptr && value->is_string() ? std::string{value->get_string()} : std::string{};
}

json::value text_or_null(std::string_view text) {
  return text.empty() ? json::value(nullptr) : json::value(text);
}

ErrorCode code_of_status(int status) {
  if (status == 401) return ErrorCode::kUnauthorized;
  if (status == 404) return ErrorCode::kNotFound;
  // The first row of a status may be narrower than the status itself; these two are not.
  if (status == 400 || status == 422) return ErrorCode::kInvalidRequest;
  if (status == 500) return ErrorCode::kInternal;
  if (auto code = find_code([&](const ErrorInfo& info) { return info.http_status == status; }))
    return *code;
  if (status >= 500) return ErrorCode::kInternal;
  return status >= 400 ? ErrorCode::kInvalidRequest : ErrorCode::kWorkerProtocol;
}

/// The beginning of a body that is not JSON.
std::string excerpt(std::string_view body) {
  const std::string_view head = body.substr(0, 500);
  return std::string{head.substr(0, utf8_complete_prefix(head))};
}

/// OpenAI object, bare string, or {"detail"|"message": …}; an empty message if none of these.
UpstreamError read_body(const json::value& body) {
  if (!body.is_object()) return {};
  if (const json::value* error = body.get_object().if_contains("error"))
    return read_error_value(*error);
  UpstreamError result;
  result.message = string_member(body.get_object(), "message");
  if (const json::value* detail = body.get_object().if_contains("detail"))
    result.message =
        detail->is_string() ? std::string{detail->get_string()} : json::serialize(*detail);
  return result;
}

}  // namespace

UpstreamError read_error_value(const json::value& error) {
  UpstreamError result;
  if (error.is_string()) {
    result.message = error.get_string();
    return result;
  }
  if (!error.is_object()) {
    result.message = json::serialize(error);
    return result;
  }
  const json::object& object = error.get_object();
  result.message = string_member(object, "message");
  result.param = string_member(object, "param");
  result.type = string_member(object, "type");
  result.wire_code = string_member(object, "code");
  return result;
}

std::optional<ErrorCode> code_named(const UpstreamError& error) {
  if (!error.wire_code.empty())
    if (auto code =
            find_code([&](const ErrorInfo& info) { return info.wire_code == error.wire_code; }))
      return code;
  // "server_error" covers too much to pick a row by.
  if (error.type.empty() || error.type == error_info(ErrorCode::kInternal).type)
    return std::nullopt;
  return find_code([&](const ErrorInfo& info) { return info.type == error.type; });
}

json::object error_object(const Error& error) {
  const ErrorInfo& info = error_info(error.code);
  json::object inner;
  inner["message"] = error.message;
  inner["type"] = info.type;
  inner["param"] = text_or_null(error.param);
  inner["code"] = text_or_null(info.wire_code);
  json::object outer;
  outer["error"] = std::move(inner);
  return outer;
}

http::Response error_response(const Error& error, std::optional<int> retry_after_s) {
  const ErrorInfo& info = error_info(error.code);
  http::Response response;
  response.status = info.http_status;
  response.headers.add("content-type", "application/json");
  response.headers.add("x-should-retry", info.may_retry ? "true" : "false");
  if (retry_after_s) response.headers.add("retry-after", std::to_string(*retry_after_s));
  response.body = json::serialize(error_object(error));
  return response;
}

Error read_error(int status, std::string_view body) {
  boost::system::error_code failure;
  const json::value parsed = json::parse(body, failure);
  UpstreamError upstream = failure ? UpstreamError{} : read_body(parsed);
  if (upstream.message.empty() && utf8_valid(body)) upstream.message = excerpt(body);
  if (upstream.message.empty()) upstream.message = fmt::format("The upstream answered {}.", status);

  ErrorCode code = code_of_status(status);
  // Some servers give the context overflow no code of its own; clients know it by these words.
  if (status == 400 && upstream.message.find("maximum context length") != std::string::npos)
    code = ErrorCode::kContextLengthExceeded;
  if (const auto named = code_named(upstream);
      named && !upstream.wire_code.empty() && error_info(*named).http_status == status)
    code = *named;
  return Error{code, std::move(upstream.message), std::move(upstream.param)};
}

}  // namespace mlxs::api
