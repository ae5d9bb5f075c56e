#pragma once

#include "worker/codec.h"
#include "worker/options.h"

namespace mlxs::worker {

/// The real thing: tokenizer and chat template from the checkpoint, weights on MLX.
[[nodiscard]] ModelLoader native_model(const Options& options);

}  // namespace mlxs::worker
