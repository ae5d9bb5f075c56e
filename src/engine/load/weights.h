#pragma once

#include "base/result.h"
#include "engine/load/checkpoint.h"
#include "engine/load/packed_file.h"
#include "engine/ops/weight.h"

#include <mlx/array.h>
#include <mlx/dtype.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlxs::engine {

struct WeightPolicy {
  mlx::core::Dtype dtype;       ///< Of dense weights, scales and activations.
  bool keep_quantised = false;  ///< Else quantised matrices are widened to `dtype`.
  bool pack = false;  ///< Matrices are packed for the CPU kernels, quantised ones that those don't
                      ///< take as `dtype`, which is float32.
  bool eight_bits = false;  ///< Packed matrices are met by activations of eight bits.
};

/// Hands a model the tensors of a checkpoint as evaluated arrays, by Hugging Face name, and keeps
/// count of what was asked for. The first error is kept and everything after it comes back as an
/// empty array, so a model asks for all its weights and the loader asks `finish` once.
/// Loading thread only; `checkpoint` outlives the reader.
class WeightReader {
 public:
  /// `kept`: what an earlier reader with this checkpoint and policy packed; it is taken as it is.
  WeightReader(const Checkpoint& checkpoint,
               WeightPolicy policy,
               std::function<void(double)> progress,
               PackedMatrices kept = {});

  [[nodiscard]] bool contains(std::string_view name) const;
  /// Something went wrong already: no use in asking for more.
  [[nodiscard]] bool failed() const { return error_.has_value(); }
  /// Takes a tensor that is not needed as asked for.
  void ignore(std::string name) { used_.insert(std::move(name)); }
  /// What the policy asks activations to be.
  [[nodiscard]] mlx::core::Dtype dtype() const { return policy_.dtype; }
  /// A tensor [size] of the policy's dtype.
  [[nodiscard]] mlx::core::array vector(const std::string& name, int size);
  /// As `vector` plus 1, which is what a norm that multiplies by 1 + weight uses. A file that holds
  /// the sum already (`TensorView::one_added`) is left as it is.
  [[nodiscard]] mlx::core::array vector_plus_one(const std::string& name, int size);
  /// As `vector`, in float32 whatever the policy says.
  [[nodiscard]] mlx::core::array vector_float32(const std::string& name, int size);

  struct Part {
    std::string name;  ///< Without ".weight" or ".bias".
    int rows = 0;
  };
  /// A matrix [rows, columns] ("name.weight", and what belongs to its quantised form).
  [[nodiscard]] Weight matrix(const Part& part, int columns);
  /// The parts below each other. Neighbours of one form become one matrix, so that there is one
  /// unless a checkpoint mixes forms among them.
  [[nodiscard]] std::vector<Weight> matrices(const std::vector<Part>& parts, int columns);
  /// As `matrices` for each of `count` experts: [count, sum of rows, columns]. Read from tensors
  /// stacked by expert (`prefix` + "switch_mlp." + name, as mlx-lm writes them) or from one for
  /// each
  /// (`prefix` + "experts.3." + name, as Hugging Face does).
  [[nodiscard]] std::vector<Weight> experts(const std::string& prefix,
                                            const std::vector<Part>& parts,
                                            int count,
                                            int columns);
  /// The parts' ".bias" vectors behind each other.
  [[nodiscard]] mlx::core::array bias(const std::vector<Part>& parts);

  /// kCorruptFile: the first missing or misshaped tensor (naming it, both shapes and the file), or
  /// a tensor that nobody asked for.
  [[nodiscard]] Result<void> finish() const;
  /// Bytes of all arrays handed out.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  /// All matrices that were handed out packed, and whether some were not among the kept ones.
  [[nodiscard]] const PackedMatrices& packed() const { return packed_; }
  [[nodiscard]] bool packed_anew() const { return packed_anew_; }

 private:
  const TensorView* find(const std::string& name);
  const TensorView* find(const std::string& name, std::span<const std::int64_t> shape);
  std::vector<Weight> joined(std::vector<Weight> parts, int axis);
  /// "name.weight" of [leading..., columns].
  /// `pack`: a form that `packed` takes is kept whatever the policy says.
  Weight read(const std::string& name,
              const std::vector<std::int64_t>& leading,
              int columns,
              bool pack);
  Weight read_packed(const std::string& name,
                     const std::vector<std::int64_t>& leading,
                     int columns);
  Weight read_blocks(const TensorView& tensor, bool pack);
  Weight widened(const Weight& weight) const;
  /// What was kept under `name`, made of `tensors` (those of them that there are).
  std::optional<std::vector<Weight>> take_kept(const std::string& name,
                                               const std::vector<std::string>& tensors,
                                               int rows,
                                               int columns);
  void pack_all(const std::string& name, std::vector<Weight>& weights);
  /// To be kept, if all of them are packed.
  void note_packed(const std::string& name, const std::vector<Weight>& weights);
  /// As the policy says.
  std::shared_ptr<const PackedMatrix> handed_out(std::shared_ptr<const PackedMatrix> matrix) const;
  mlx::core::array dense(const TensorView& tensor, mlx::core::Dtype dtype);
  void reject(std::string message);
  void advance(const TensorView& tensor);

  const Checkpoint& checkpoint_;
  WeightPolicy policy_;
  std::function<void(double)> progress_;
  PackedMatrices kept_;
  PackedMatrices packed_;
  bool packed_anew_ = false;
  std::set<std::string, std::less<>> used_;
  std::uint64_t bytes_ = 0;
  std::uint64_t file_bytes_read_ = 0;
  std::uint64_t file_bytes_total_ = 0;
  std::optional<Error> error_;
};

}  // namespace mlxs::engine
