#pragma once

#include "base/result.h"
#include "hub/source.h"
#include "hub/transfer.h"

#include <string_view>

namespace mlxs::hub {

/// What a hub's refusal (status 400 and above) means, in words that say what to do about it.
/// kUnauthorized, kForbidden, kNotFound; kUnavailable where trying again may help (408, 429, 5xx,
/// and any refusal of a host that the hub sent us to: signed links expire).
[[nodiscard]] Error refusal(const Reply& reply,
                            const Source& source,
                            std::string_view endpoint,
                            bool with_token);

}  // namespace mlxs::hub
