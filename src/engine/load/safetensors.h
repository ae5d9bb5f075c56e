#pragma once

#include "base/result.h"
#include "engine/load/tensor.h"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace mlxs::engine {

struct Safetensors {
  std::vector<TensorView> tensors;    ///< In the header's order.
  std::span<const std::byte> header;  ///< The JSON, for digests.
};

/// Reads the header of a safetensors file: eight bytes of length, JSON, data. Strict: every tensor
/// lies inside the data, its byte range is exactly its shape times its dtype, and none overlap.
/// kCorruptFile names file and tensor; kInvalidRequest a dtype other than F32, F16, BF16, U32 and
/// U8. `bytes` outlives the result; `file` is for messages. Format:
/// github.com/huggingface/safetensors, README.
[[nodiscard]] Result<Safetensors> parse_safetensors(std::span<const std::byte> bytes,
                                                    const std::string& file);

}  // namespace mlxs::engine
