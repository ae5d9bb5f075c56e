#pragma once

#include "base/result.h"
#include "engine/runner.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

namespace mlxs::engine {

/// What a device holds at most.
struct DeviceLimits {
  std::uint64_t bytes = UINT64_MAX;
  std::uint64_t buffers = UINT64_MAX;       ///< Allocations alive at once; Metal has a limit.
  std::uint64_t buffer_bytes = UINT64_MAX;  ///< Of one allocation.
};

struct ModelOptions {
  std::filesystem::path source;  ///< A .gguf file, or a folder with config.json and safetensors.
  Compute compute = Compute::kAuto;
  std::optional<int> context_tokens_max;  ///< Lower than the model's own.
  std::optional<std::uint64_t>
      kv_bytes;  ///< KV pool; by default what `sequences_max` rows of a
                 ///< quarter context need, within a quarter of the memory limit.
  std::optional<DeviceLimits>
      device;  ///< By default the device is asked, and the process's cgroup.
  int sequences_max = 64;
  int step_tokens_max = 512;  ///< What windows need blocks for, besides rows.
  /// Where weights packed for the CPU are kept between starts, and how many bytes of them, this
  /// model's and others' together; 0: none.
  std::filesystem::path packed_folder = {};
  std::uint64_t packed_bytes_max = 0;
};

/// Fraction done in [0, 1], called from the loading thread.
using LoadProgress = std::function<void(double)>;

/// Everything read from a checkpoint but its weights: cheap, no MLX, so the worker can fail early
/// and start tokenizing while weights load.
struct ModelText {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;  ///< Null when the model has none.
};
[[nodiscard]] Result<ModelText> load_text(const ModelOptions& options);

/// Loads weights and allocates the KV pool on the calling thread, which becomes the only one that
/// may use the runner. kNotFound: no such file; kCorruptFile: truncated, malformed, missing, extra
/// or misshaped tensors (naming tensor, both shapes and file); kInvalidRequest: an architecture or
/// tensor type that is not supported; kOutOfMemory.
[[nodiscard]] Result<std::unique_ptr<Runner>> load_runner(const ModelOptions& options,
                                                          const LoadProgress& progress);

}  // namespace mlxs::engine
