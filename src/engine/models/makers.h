#pragma once

#include "engine/models/model.h"

#include <memory>

namespace mlxs::engine {

/// One maker an architecture, listed in `model.cpp`'s table.
[[nodiscard]] Result<std::unique_ptr<Model>> make_llama(const Checkpoint& checkpoint,
                                                        WeightReader& weights);
[[nodiscard]] Result<std::unique_ptr<Model>> make_qwen2(const Checkpoint& checkpoint,
                                                        WeightReader& weights);
[[nodiscard]] Result<std::unique_ptr<Model>> make_qwen3(const Checkpoint& checkpoint,
                                                        WeightReader& weights);
[[nodiscard]] Result<std::unique_ptr<Model>> make_gemma2(const Checkpoint& checkpoint,
                                                         WeightReader& weights);
[[nodiscard]] Result<std::unique_ptr<Model>> make_gemma3(const Checkpoint& checkpoint,
                                                         WeightReader& weights);
[[nodiscard]] Result<std::unique_ptr<Model>> make_qwen3_moe(const Checkpoint& checkpoint,
                                                            WeightReader& weights);

}  // namespace mlxs::engine
