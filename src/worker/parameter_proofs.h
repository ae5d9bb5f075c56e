#pragma once

#include "api/events.h"

#include <string_view>

namespace mlxs::worker {

/// What the tests send to prove what is said of one field.
struct ParameterProof {
  std::string_view field;
  /// JSON. Of a field that is honoured: gives another answer than `other`. Else: what is accepted
  /// without effect, or refused.
  std::string_view value;
  std::string_view with = "{}";      ///< What else the request has.
  std::string_view other = {};       ///< Empty: without the field.
  std::string_view refused_as = {};  ///< "status code param": `value` is for an error to show.
  std::string_view shows = {};       ///< What the documentation says instead of the default.
};

/// The field's proof on that surface; null if there is none.
[[nodiscard]] const ParameterProof* find_proof(api::Surface surface, std::string_view field);

}  // namespace mlxs::worker
