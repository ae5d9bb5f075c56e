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
  kStrings,         ///< List of at most `max` non-empty strings.
  kTokenIds,        ///< List of at most `max` token ids.
  kLogitBias,       ///< Token ids to numbers in [-100, 100].
  kStreamOptions,   ///< include_usage and include_obfuscation, booleans.
  kResponseFormat,  ///< An object whose `type` is text, json_object or json_schema.
  kTools,           ///< List of objects with a `type`.
  kToolChoice,      ///< none, auto or required, or an object
  kStop,            ///< string, or a list of at most 4 non-empty strings
  kMessages,        ///< non-empty list of message objects
  kPrompt,          ///< string, list of token ids, or a list of at most 128 of either
  kExtension,       ///< `mlxs`: seed (64 bits), token_ids (boolean) and resume
};

/// How a field counts when it is asked whether two requests have the same answer (canonical.h).
/// Has no default: a row of the table without a decision does not compile.
class Sharing {
 public:
  enum Form {
    kCosmetic,   ///< Left out: it cannot change the answer.
    kValue,      ///< By value: for native models 1 and 1.0 are equal, null and the default too.
    kVerbatim,   ///< As written: key order counts, 1 and 1.0 differ. What reaches the template.
    kMessages,   ///< Verbatim, but for the key order of the message objects themselves.
    kStop,       ///< By value; a string is a list of one.
    kLength,     ///< max_tokens and max_completion_tokens bound the same thing.
    kExtension,  ///< `mlxs`: its parts that say how to deliver the answer are left out.
  };
  constexpr Sharing(Form form) : form_(form) {}  // NOLINT(google-explicit-constructor): reads well
  constexpr operator Form() const { return form_; }  // NOLINT(google-explicit-constructor)

 private:
  Form form_;
};

/// One documented field of a request. The one table from which validation, the documentation of
/// parameters, the fingerprint and the tests that walk every field are made: adding a row adds the
/// field.
struct Field {
  std::string_view name;
  FieldType type = FieldType::kString;
  Sharing sharing;
  /// JSON that means the same as absent, to native models; empty where that depends on the model.
  std::string_view default_json = {};
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
