#pragma once

#include "engine/text/tokenizer.h"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

/// Reading tests/golden/text. For tests.
namespace mlxs::engine {

inline boost::json::value golden_file(const std::string& name) {
  std::ifstream file{MLXS_SOURCE_DIR "/tests/golden/text/" + name};
  return boost::json::parse(
      std::string{std::istreambuf_iterator<char>{file}, std::istreambuf_iterator<char>{}});
}

inline std::vector<TokenId> ids_of(const boost::json::value& value) {
  std::vector<TokenId> out;
  for (const auto& id : value.as_array()) out.push_back(static_cast<TokenId>(id.as_int64()));
  return out;
}

/// All that a StreamDecoder gives for `ids`.
inline std::string streamed(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  StreamDecoder decoder{tokenizer};
  std::string out;
  for (const TokenId id : ids) out += decoder.push(id).value();
  return out + decoder.finish().value();
}

}  // namespace mlxs::engine
