#pragma once

#include "api/events.h"

#include <span>
#include <string_view>

namespace mlxs::api {

/// What a native worker does with a documented request field.
enum class Support {
  kHonoured,     ///< Changes the answer as documented.
  kNoEffect,     ///< Accepted; by its documentation it does not change the answer.
  kOnlyDefault,  ///< Its default is accepted; any other valid value is kUnsupportedParameter.
};

enum class FieldType {
  kString,
  kBoolean,
  kInteger,
  kNumber,
  kObject,
  kArray,
  kStop,      ///< string, or a list of at most 4 non-empty strings
  kMessages,  ///< non-empty list of message objects
  kPrompt,    ///< string, or list of token ids (lists of several prompts are kOnlyDefault)
  kToolChoice,
  kAny,
};

/// One documented field of a request. The one table from which validation, the documentation of
/// parameters and the tests that walk every field are made.
struct Field {
  std::string_view name;
  Surface surface;
  FieldType type;
  bool nullable;  ///< null means absent.
  double min;     ///< For numbers, inclusive unless noted in the table.
  double max;
  Support support;
  std::string_view default_json;  ///< For kOnlyDefault: the value accepted besides null.
};

[[nodiscard]] std::span<const Field> fields(Surface surface);

}  // namespace mlxs::api
