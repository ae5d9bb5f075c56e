#include "gateway/stages/deadline.h"

#include <charconv>
#include <cmath>
#include <string_view>

namespace mlxs::gateway {
namespace {

template <class Number>
std::optional<Number> parse_positive(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value > Number{0} ? std::optional{value} : std::nullopt;
}

// "inf" and "nan" are numbers to from_chars; a day is forever here.
std::optional<Milliseconds> sdk_seconds(const http::Request& request, std::string_view name) {
  const auto header = request.headers.get(name);
  if (!header) return std::nullopt;
  const auto seconds = parse_positive<double>(*header);
  if (!seconds || !std::isfinite(*seconds) || *seconds > 86'400) return std::nullopt;
  return Milliseconds{static_cast<Milliseconds::rep>(std::ceil(*seconds * 1000))};
}

}  // namespace

Result<Patience> read_patience(const http::Request& request, bool stream) {
  Patience patience;
  if (const auto header = request.headers.get("x-request-timeout-ms")) {
    const auto value = parse_positive<std::int64_t>(*header);
    if (!value)
      return fail(ErrorCode::kInvalidRequest,
                  "[deadline] expected x-request-timeout-ms to be a positive whole number",
                  "x-request-timeout-ms");
    patience.deadline = Deadline::after(Milliseconds{*value}, request.arrived_at);
  }
  auto sdk = sdk_seconds(request, "x-stainless-read-timeout");
  if (!sdk) sdk = sdk_seconds(request, "x-stainless-timeout");
  if (!sdk) return patience;
  if (stream) {
    patience.next_byte = sdk;
  } else {
    patience.deadline =
        Deadline::sooner(patience.deadline, Deadline::after(*sdk, request.arrived_at));
  }
  return patience;
}

}  // namespace mlxs::gateway
