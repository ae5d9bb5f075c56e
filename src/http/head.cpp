#include "http/head.h"

#include <boost/beast/core/string.hpp>
#include <boost/beast/http/status.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <iterator>

namespace mlxs::http {
namespace {

namespace beast = boost::beast;

bool same_name(std::string_view a, std::string_view b) {
  return beast::iequals({a.data(), a.size()}, {b.data(), b.size()});
}

bool frames_message(std::string_view name) {
  return same_name(name, "content-length") || same_name(name, "transfer-encoding") ||
         same_name(name, "connection");
}

void append_text(std::string& out, std::string_view text) {
  const std::size_t begin = out.size();
  out += text;
  const auto breaks = [](char c) { return c == '\r' || c == '\n' || c == '\0'; };
  std::replace_if(out.begin() + static_cast<std::ptrdiff_t>(begin), out.end(), breaks, ' ');
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
  append_text(out, name);
  out += ": ";
  append_text(out, value);
  out += "\r\n";
}

}  // namespace

std::string render_fields(const Headers& headers) {
  std::string out;
  for (const auto& [name, value] : headers.fields())
    if (!frames_message(name)) append_field(out, name, value);
  return out;
}

std::string render_response_head(int status,
                                 const Headers& headers,
                                 const HeadOptions& options,
                                 std::string_view shared_fields) {
  std::string out;
  out.reserve(512 + shared_fields.size());
  const auto reason = beast::http::obsolete_reason(static_cast<beast::http::status>(status));
  fmt::format_to(std::back_inserter(out),
                 "HTTP/1.1 {} {}\r\n",
                 status,
                 std::string_view{reason.data(), reason.size()});
  bool dated = false;
  for (const auto& [name, value] : headers.fields()) {
    if (frames_message(name)) continue;
    dated = dated || same_name(name, "date");
    append_field(out, name, value);
  }
  out += shared_fields;
  if (!dated) append_field(out, "date", http_date());
  if (options.chunked) out += "transfer-encoding: chunked\r\n";
  if (options.content_length) {
    fmt::format_to(std::back_inserter(out), "content-length: {}\r\n", *options.content_length);
  }
  if (!options.keep_alive) out += "connection: close\r\n";
  if (options.keep_alive && options.http_1_0) out += "connection: keep-alive\r\n";
  out += "\r\n";
  return out;
}

std::string render_request_head(const Request& request, std::string_view host) {
  std::string out;
  out.reserve(512);
  append_text(out, request.method);
  out += ' ';
  append_text(out, request.target);
  out += " HTTP/1.1\r\n";
  if (!request.headers.get("host")) append_field(out, "host", host);
  for (const auto& [name, value] : request.headers.fields()) {
    if (same_name(name, "content-length") || same_name(name, "transfer-encoding")) continue;
    append_field(out, name, value);
  }
  if (!request.body.empty() || request.method == "POST" || request.method == "PUT") {
    fmt::format_to(std::back_inserter(out), "content-length: {}\r\n", request.body.size());
  }
  out += "\r\n";
  return out;
}

std::string_view http_date() {
  // Names are fixed by RFC 9110; strftime's follow the locale.
  static constexpr std::array kDays{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array kMonths{
      "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  thread_local std::time_t formatted_at = -1;
  thread_local std::string text;
  const std::time_t now = std::time(nullptr);
  if (now == formatted_at) return text;
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  text = fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
                     kDays.at(static_cast<std::size_t>(utc.tm_wday)),
                     utc.tm_mday,
                     kMonths.at(static_cast<std::size_t>(utc.tm_mon)),
                     utc.tm_year + 1900,
                     utc.tm_hour,
                     utc.tm_min,
                     utc.tm_sec);
  formatted_at = now;
  return text;
}

}  // namespace mlxs::http
