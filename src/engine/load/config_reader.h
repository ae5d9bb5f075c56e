#pragma once

#include "base/result.h"

#include <boost/json/object.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mlxs::engine {

/// Reads typed values out of a parsed `config.json`. The first thing wrong is kept and everything
/// after it reads as zero, so that a caller reads all its keys and asks `status` once.
/// `config` outlives the reader.
class ConfigReader {
 public:
  /// `file` is for messages.
  ConfigReader(const boost::json::object& config, std::string file)
      : config_(config), file_(std::move(file)) {}

  /// A whole number in [1, 2^24]. The second form: when absent or null.
  int count(std::string_view key);
  int count(std::string_view key, int absent);
  double number(std::string_view key);
  double number(std::string_view key, double absent);
  bool boolean(std::string_view key, bool absent);
  std::string string(std::string_view key);
  std::string string(std::string_view key, std::string absent);
  /// An object; null when absent or null.
  const boost::json::object* object(std::string_view key);

  /// Records what is wrong with `key`; for checks that need more than a type.
  void reject(std::string_view key, std::string_view reason);
  /// kCorruptFile naming file and key, the first that was wrong.
  [[nodiscard]] Result<void> status() const;

 private:
  const boost::json::value* find(std::string_view key);
  void missing(std::string_view key);

  const boost::json::object& config_;
  std::string file_;
  std::optional<Error> error_;
};

/// Parses JSON text that must be one object, at most 64 levels deep. kCorruptFile names `file`.
[[nodiscard]] Result<boost::json::object> parse_json_object(std::string_view text,
                                                            const std::string& file);

}  // namespace mlxs::engine
