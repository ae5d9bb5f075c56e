#include "engine/load/config_reader.h"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>

#include <cmath>
#include <utility>

namespace mlxs::engine {
namespace {

constexpr double kCountMax = 1 << 24;  // Beyond any width, vocabulary or context there is.

}  // namespace

const boost::json::value* ConfigReader::find(std::string_view key) {
  if (error_) return nullptr;
  const boost::json::value* value = config_.if_contains(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

void ConfigReader::reject(std::string_view key, std::string_view reason) {
  if (error_) return;
  error_ = fail(ErrorCode::kCorruptFile,
                fmt::format("[config] {}: '{}' {}", file_, key, reason),
                std::string(key));
}

void ConfigReader::missing(std::string_view key) { reject(key, "is missing"); }

int ConfigReader::count(std::string_view key, int absent) {
  const auto* value = find(key);
  if (value == nullptr) return absent;
  const double number = value->is_number() ? value->to_number<double>() : 0;
  if (number < 1 || number > kCountMax || number != std::floor(number)) {
    reject(key, "has to be a whole number in [1, 2^24]");
    return absent;
  }
  return static_cast<int>(number);
}

int ConfigReader::count(std::string_view key) {
  if (find(key) == nullptr) missing(key);
  return count(key, 1);
}

double ConfigReader::number(std::string_view key, double absent) {
  const auto* value = find(key);
  if (value == nullptr) return absent;
  if (!value->is_number()) {
    reject(key, "has to be a number");
    return absent;
  }
  return value->to_number<double>();
}

double ConfigReader::number(std::string_view key) {
  if (find(key) == nullptr) missing(key);
  return number(key, 0);
}

bool ConfigReader::boolean(std::string_view key, bool absent) {
  const auto* value = find(key);
  if (value == nullptr) return absent;
  if (!value->is_bool()) {
    reject(key, "has to be true or false");
    return absent;
  }
  return value->get_bool();
}

std::string ConfigReader::string(std::string_view key, std::string absent) {
  const auto* value = find(key);
  if (value == nullptr) return absent;
  if (!value->is_string()) {
    reject(key, "has to be a string");
    return absent;
  }
  return std::string(value->get_string());
}

std::string ConfigReader::string(std::string_view key) {
  if (find(key) == nullptr) missing(key);
  return string(key, {});
}

const boost::json::object* ConfigReader::object(std::string_view key) {
  const auto* value = find(key);
  if (value == nullptr) return nullptr;
  if (!value->is_object()) reject(key, "has to be an object");
  return value->if_object();
}

Result<void> ConfigReader::status() const {
  if (error_) return *error_;
  return {};
}

Result<boost::json::object> parse_json_object(std::string_view text, const std::string& file) {
  boost::json::parse_options options;
  options.max_depth = 64;
  options.allow_invalid_utf8 = true;  // Names are only compared and shown.
  boost::json::error_code error;
  boost::json::value value = boost::json::parse(text, error, {}, options);
  if (error) {
    return fail(ErrorCode::kCorruptFile,
                fmt::format("[config] {} is not valid JSON: {}", file, error.message()));
  }
  if (!value.is_object()) {
    return fail(ErrorCode::kCorruptFile, fmt::format("[config] {} is not a JSON object", file));
  }
  return std::move(value.get_object());
}

}  // namespace mlxs::engine
