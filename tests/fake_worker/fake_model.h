#pragma once

#include "base/deadline.h"
#include "engine/types.h"
#include "worker/codec.h"

#include <functional>
#include <string>
#include <vector>

namespace mlxs::fake {

/// How the fake model behaves. It needs no file, no MLX and no vocabulary: ids 0 to 255 are bytes.
struct ModelKnobs {
  int context_tokens_max = 2048;
  int blocks_total = 4096;
  std::vector<engine::KvWindow> windows = {};  ///< As FakeRunner's.
  bool has_template = true;
  bool endless = false;         ///< Never draws the end token, so the request's limit ends answers.
  Milliseconds load{0};         ///< Time a load takes, with progress.
  std::string load_error = {};  ///< A load that fails, with this message.
  Milliseconds step{0};         ///< Time a step takes at least.
  int fail_from_step = -1;      ///< Steps that the runner reports as failed, from this one on.
  int crash_at_step = -1;       ///< The process aborts at this step.
  int hang_at_step = -1;        ///< The step that never ends.
  /// As ModelLoader's.
  std::function<Result<void>(const std::function<void(worker::FetchProgress)>&)> fetch = {};
  /// Called before the load; for tests that hold it.
  std::function<void()> before_load = {};
  /// Called before each step, after the knobs; for tests that hold a step under way.
  std::function<void(std::uint64_t step)> before_step = {};
};

/// Real worker and engine over engine::FakeRunner, with a byte-level codec. The chat template
/// writes its arguments, "<role>: <content>\n" for each message and "assistant: " at the end.
[[nodiscard]] worker::ModelLoader model_loader(ModelKnobs knobs);

}  // namespace mlxs::fake
