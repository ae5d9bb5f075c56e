#pragma once

#include "base/result.h"
#include "engine/load/checkpoint.h"
#include "engine/ops/weight.h"

#include <mlx/array.h>
#include <mlx/dtype.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlxs::engine {

struct WeightPolicy {
  mlx::core::Dtype dtype;       ///< Of dense weights, scales and activations.
  bool keep_quantised = false;  ///< Else quantised matrices are widened to `dtype`.
};

/// Hands a model the tensors of a checkpoint as evaluated arrays, by Hugging Face name, and keeps
/// count of what was asked for. The first error is kept and everything after it comes back as an
/// empty array, so a model asks for all its weights and the loader asks `finish` once.
/// Loading thread only; `checkpoint` outlives the reader.
class WeightReader {
 public:
  WeightReader(const Checkpoint& checkpoint,
               WeightPolicy policy,
               std::function<void(double)> progress);

  [[nodiscard]] bool contains(std::string_view name) const;
  /// Something went wrong already: no use in asking for more.
  [[nodiscard]] bool failed() const { return error_.has_value(); }
  /// Takes a tensor that is not needed as asked for.
  void ignore(std::string name) { used_.insert(std::move(name)); }
  /// A tensor [size] of the policy's dtype.
  [[nodiscard]] mlx::core::array vector(const std::string& name, int size);
  /// As `vector`, in float32 whatever the policy says.
  [[nodiscard]] mlx::core::array vector_float32(const std::string& name, int size);

  struct Part {
    std::string name;  ///< Without ".weight" or ".bias".
    int rows = 0;
  };
  /// The parts' ".weight" matrices below each other: [sum of rows, columns].
  [[nodiscard]] Weight matrix(const std::vector<Part>& parts, int columns);
  /// The parts' ".bias" vectors behind each other.
  [[nodiscard]] mlx::core::array bias(const std::vector<Part>& parts);

  /// kCorruptFile: the first missing or misshaped tensor (naming it, both shapes and the file), or
  /// a tensor that nobody asked for.
  [[nodiscard]] Result<void> finish() const;
  /// Bytes of all arrays handed out.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  const TensorView* find(const std::string& name, std::initializer_list<std::int64_t> shape);
  const TensorView* find(const std::string& name);
  Weight part_matrix(const Part& part, int columns);
  Weight affine_part(const Part& part, int columns, const TensorView& packed);
  mlx::core::array dense(const TensorView& tensor, mlx::core::Dtype dtype);
  void reject(std::string message);
  void advance(const TensorView& tensor);

  const Checkpoint& checkpoint_;
  WeightPolicy policy_;
  std::function<void(double)> progress_;
  std::set<std::string, std::less<>> used_;
  std::uint64_t bytes_ = 0;
  std::uint64_t file_bytes_read_ = 0;
  std::uint64_t file_bytes_total_ = 0;
  std::optional<Error> error_;
};

}  // namespace mlxs::engine
