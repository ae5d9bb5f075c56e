#pragma once

#include "gateway/cache/answer_store.h"

#include <string>
#include <string_view>

namespace mlxs::gateway {

/// Appends an ended log, which is what every kept answer of the gateway is, as bytes that
/// `log_from_bytes` reads.
void append_bytes(const StoredAnswer& answer, std::string& out);
/// The log again, sealed; null for bytes that `append_bytes` does not write.
[[nodiscard]] StoredAnswerPtr log_from_bytes(std::string_view bytes);

}  // namespace mlxs::gateway
