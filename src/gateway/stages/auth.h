#pragma once

#include "base/result.h"
#include "config/config.h"
#include "http/message.h"

#include <span>
#include <string>

namespace mlxs::gateway {

/// Who calls: the name of the configured key whose secret `Authorization: Bearer` carries.
/// "" where no keys are configured; Authorization is then ignored, since SDKs always send one.
/// kUnauthorized for none or an unknown one. The secret is hashed and compared with every key in
/// constant time, so that neither its bytes nor its position can be guessed from timing.
[[nodiscard]] Result<std::string> authenticate(std::span<const config::Key> keys,
                                               const http::Request& request);

}  // namespace mlxs::gateway
