#pragma once

#include "api/events.h"

#include <span>
#include <string_view>

namespace mlxs::api {

/// What a native worker does with a documented request field.
enum class Support {
  kHonoured,     ///< Changes the answer as documented.
  kNoEffect,     ///< Accepted; by its documentation it does not change the answer.
  kOnlyDefault,  ///< `accepted_json` is accepted; any other valid value is kUnsupportedParameter.
};

enum class FieldType {
  kString,          ///< With `choices`: one of these. With `max`: at most that many bytes.
  kBoolean,         ///<
  kInteger,         ///< In [min, max]; 3.0 is an integer, 3.5 is not.
  kNumber,          ///< In [min, max], or (min, max] with `min_excluded`.
  kSeed,            ///< Integer of 64 bits, signed or unsigned.
  kObject,          ///<
  kArray,           ///<
  kMetadata,        ///< At most 16 strings of at most 512 bytes under keys of at most 64.
  kLogitBias,       ///< Token ids to numbers in [-100, 100].
  kStreamOptions,   ///< include_usage and include_obfuscation, booleans.
  kResponseFormat,  ///< An object whose `type` is text, json_object or json_schema.
  kTools,           ///< List of objects with a `type`.
  kToolChoice,      ///< none, auto or required, or an object
  kStop,            ///< string, or a list of at most 4 non-empty strings
  kMessages,        ///< non-empty list of message objects
  kPrompt,          ///< string, or list of token ids (lists of several prompts are unsupported)
  kExtension,       ///< `mlxs`: seed (64 bits) and token_ids (boolean)
};

/// One documented field of a request. The one table from which validation, the documentation of
/// parameters and the tests that walk every field are made: adding a row adds the field.
struct Field {
  std::string_view name;
  FieldType type = FieldType::kString;
  Support support = Support::kHonoured;
  double min = 0;
  double max = 0;
  bool min_excluded = false;
  bool required = false;          ///< Absent or null is an error; else null means absent.
  std::string_view choices = {};  ///< kString: the values allowed, separated by '|'.
  std::string_view accepted_json =
      "[]";  ///< kOnlyDefault: JSON list of values accepted besides null.
};

/// Every documented field of that endpoint, in alphabetical order.
[[nodiscard]] std::span<const Field> fields(Surface surface);

/// The row of that name; null if nobody documents it.
[[nodiscard]] const Field* find_field(Surface surface, std::string_view name);

}  // namespace mlxs::api
