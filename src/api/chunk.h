#pragma once

#include "api/events.h"
#include "base/result.h"

#include <string_view>

namespace mlxs::api {

/// Reads the data of one upstream SSE event (not "[DONE]"). A top-level `error` object becomes an
/// Error: kWorkerProtocol with its message, or the code that its `code`/`type` names in our table.
/// kWorkerProtocol for anything that is no chunk. Unknown fields are skipped.
[[nodiscard]] Result<Chunk> parse_chunk(Surface surface, std::string_view data);

/// Reads a whole (not streamed) answer as if it had come in one chunk; for foreign servers that
/// cannot stream.
[[nodiscard]] Result<Chunk> parse_whole(Surface surface, std::string_view body);

}  // namespace mlxs::api
