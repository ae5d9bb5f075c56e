#pragma once

#include "base/result.h"

#include <boost/json/array.hpp>

#include <string>

namespace mlxs::api {

/// Checks a chat request's messages and gives them as the template gets them, as JSON text: role
/// developer is system, text parts are joined, nulls are dropped, everything else is untouched and
/// in its order. kInvalidRequest or kUnsupportedParameter naming the place
/// ("messages[2].content[0].type").
[[nodiscard]] Result<std::string> template_messages(const boost::json::array& messages);

}  // namespace mlxs::api
