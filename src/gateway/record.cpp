#include "gateway/record.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <iterator>
#include <string_view>

namespace mlxs::gateway {
namespace {

constexpr std::size_t kFieldBytesMax = 256;  // of what a client chose; keeps lines below 4 KiB

// Appends `text` as a JSON string, cut to its bound. Bytes outside printable ASCII are escaped as
// Latin-1: a log must stay readable whatever a client sent.
void append_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text.substr(0, kFieldBytesMax)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte > 0x7e) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", byte);
    } else {
      out += c;
    }
  }
  out += '"';
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
  fmt::format_to(std::back_inserter(out), ",\"{}\":", name);
  append_string(out, value);
}

double milliseconds(std::chrono::microseconds duration) {
  return static_cast<double>(duration.count()) / 1000.0;
}

void append_generation(std::string& out, const RequestRecord& record) {
  const auto to = std::back_inserter(out);
  append_field(out, "model", record.model);
  append_field(out, "worker", record.worker);
  fmt::format_to(to,
                 ",\"attempts\":{},\"stream\":{},\"prompt_tokens\":{},\"completion_tokens\":{}"
                 ",\"queue_ms\":{:.3f}",
                 record.attempts,
                 record.stream,
                 record.usage.prompt_tokens,
                 record.usage.completion_tokens,
                 milliseconds(record.queue));
  if (record.first_event)
    fmt::format_to(to, ",\"ttft_ms\":{:.3f}", milliseconds(*record.first_event));
  if (!record.finish_reason.empty()) append_field(out, "finish", record.finish_reason);
  if (record.cache) append_field(out, "cache", to_string(*record.cache));
}

}  // namespace

std::string to_json_line(const RequestRecord& record) {
  const auto now = std::chrono::system_clock::now();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(now);
  const auto ms = std::chrono::duration_cast<Milliseconds>(now - seconds).count();
  std::string out;
  out.reserve(512);
  fmt::format_to(std::back_inserter(out),
                 "{{\"time\":\"{:%Y-%m-%dT%H:%M:%S}.{:03}Z\"",
                 fmt::gmtime(std::chrono::system_clock::to_time_t(seconds)),
                 ms);
  append_field(out, "request_id", record.request_id);
  append_field(out, "method", record.method);
  append_field(out, "path", record.path);
  fmt::format_to(std::back_inserter(out),
                 ",\"status\":{},\"bytes\":{},\"total_ms\":{}",
                 record.status,
                 record.bytes,
                 record.total.count());
  if (!record.key.empty()) append_field(out, "key", record.key);
  if (record.generation) append_generation(out, record);
  if (record.error) append_field(out, "error", error_info(record.error->code).wire_code);
  if (record.client_gone) out += ",\"client_gone\":true";
  out += "}\n";
  return out;
}

}  // namespace mlxs::gateway
