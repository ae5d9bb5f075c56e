#pragma once

#include "base/result.h"
#include "engine/load/checkpoint.h"
#include "engine/load/weights.h"
#include "engine/ops/attention.h"
#include "engine/ops/kv.h"

#include <mlx/array.h>
#include <mlx/dtype.h>

#include <memory>
#include <string_view>
#include <vector>

namespace mlxs::engine {

/// A step as arrays, built once and shared by all layers.
struct StepArrays {
  mlx::core::array tokens;     ///< [T] int32
  mlx::core::array positions;  ///< [T] int32, of each token in its sequence
  mlx::core::array slots;      ///< [T] int32, where its keys and values go (`kv_append`)
  mlx::core::array logits_at;  ///< [R] int32, packed indices
  std::shared_ptr<const AttentionPlan> attention;
  /// The same step for layers with ModelShape::windows[k], whose slots and tables are others.
  /// Empty: this one serves them, too.
  std::vector<StepArrays> windows = {};

  /// As a layer sees it whose ModelShape::window_of is `window`.
  [[nodiscard]] const StepArrays& of(int window) const {
    return window == 0 || windows.empty() ? *this : windows[static_cast<std::size_t>(window) - 1];
  }
};

/// What the runner has to know of a model before it allocates anything for it.
struct ModelShape {
  int layers = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int vocab_size = 0;
  int context_tokens_max = 0;
  std::vector<int> windows;    ///< Positions a query sees, itself included; each once, ascending.
  std::vector<int> window_of;  ///< By layer: 1 + an index into `windows`; 0: it sees all.
  mlx::core::Dtype kv_dtype = mlx::core::float32;  ///< Of the pool.
};

/// The layers of one architecture with their weights. Engine thread only.
class Model {
 public:
  virtual ~Model() = default;
  [[nodiscard]] virtual const ModelShape& shape() const = 0;
  /// Builds the graph of a step; evaluates nothing. `pool` has an entry a layer, each replaced by
  /// the one with this step's keys and values.
  /// Result [R, vocab_size] float32: the logits of `step.logits_at`.
  [[nodiscard]] virtual mlx::core::array forward(const StepArrays& step,
                                                 std::vector<KvLayer>& pool) const = 0;
};

/// Every `model_type` that `make_model` knows, in alphabetical order.
[[nodiscard]] std::vector<std::string_view> supported_model_types();

/// Builds the model that `checkpoint`'s `model_type` names. kInvalidRequest when there is no such
/// architecture; kCorruptFile for wrong configuration keys. Tensors load through `weights`, whose
/// `finish` has the last word.
[[nodiscard]] Result<std::unique_ptr<Model>> make_model(const Checkpoint& checkpoint,
                                                        WeightReader& weights);

}  // namespace mlxs::engine
