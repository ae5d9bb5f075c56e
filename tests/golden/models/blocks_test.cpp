// GGUF's block types as the model gets them, under every policy, against gguf-py's dequantisation
// (tests/golden/gguf/make.py).

#include "engine/load/blocks.h"

#include "engine/load/checkpoint.h"
#include "engine/load/mapped_file.h"
#include "engine/load/safetensors.h"
#include "engine/load/weights.h"
#include "engine/ops/linear.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace mlxs::engine::golden {
namespace {

namespace mx = mlx::core;

constexpr int kColumns = 256;

/// A checkpoint with one matrix, and its values.
struct OneMatrix {
  Checkpoint checkpoint;
  std::vector<float> values;
  int rows = 0;
};

OneMatrix read_matrix(TensorType type) {
  const auto path = std::filesystem::path(MLXS_SOURCE_DIR) / "tests/golden/gguf/blocks.safetensors";
  OneMatrix result;
  result.checkpoint.files.push_back(MappedFile::open(path).value());
  const std::string name(tensor_type_name(type));
  const auto bytes = result.checkpoint.files.front().bytes();
  for (TensorView& tensor : parse_safetensors(bytes, name).value().tensors) {
    if (tensor.name == name + ".values") {
      result.values.resize(static_cast<std::size_t>(tensor.elements()));
      widen(tensor.type, tensor.bytes, tensor.elements(), result.values.data());
    } else if (tensor.name == name + ".bytes") {
      tensor.type = type;
      result.checkpoint.tensors.emplace("m.weight", tensor);
    }
  }
  result.rows = static_cast<int>(result.values.size()) / kColumns;
  result.checkpoint.tensors.at("m.weight").shape = {result.rows, kColumns};
  return result;
}

/// Relative root mean square error of the matrix that `policy` makes.
double error(const OneMatrix& matrix, const WeightPolicy& policy) {
  WeightReader reader(matrix.checkpoint, policy, {});
  const Weight weight = reader.matrix({"m", matrix.rows}, kColumns);
  std::vector<std::int32_t> all(static_cast<std::size_t>(matrix.rows));
  std::iota(all.begin(), all.end(), 0);
  const mx::array tokens(all.begin(), {matrix.rows}, mx::int32);
  mx::array rows = embedding(tokens, weight, mx::float32);
  mx::eval(rows);
  double difference = 0;
  double total = 0;
  for (std::size_t i = 0; i < matrix.values.size(); ++i) {
    difference += std::pow(rows.data<float>()[i] - matrix.values[i], 2);
    total += std::pow(matrix.values[i], 2);
  }
  return std::sqrt(difference / total);
}

TEST(GgufBlocks, AreExactOnCpuAndNearWhereTheyStayQuantised) {
  for (int number = static_cast<int>(TensorType::kQ4_0);
       number <= static_cast<int>(TensorType::kMXFP4);
       ++number) {
    const auto type = static_cast<TensorType>(number);
    const OneMatrix matrix = read_matrix(type);
    SCOPED_TRACE(tensor_type_name(type));

    EXPECT_EQ(error(matrix, {mx::float32, false}), 0);
    // Packed: what has no groups is rounded to half precision.
    EXPECT_LT(error(matrix, {mx::float32, false, true}), has_groups(type) ? 1e-7 : 3e-4);
    EXPECT_LT(error(matrix, {mx::float32, true}), has_groups(type) ? 1e-7 : 0.07);
    // The default of a GPU: scales in 16 bits.
    EXPECT_LT(error(matrix, {mx::float16, true}), has_groups(type) ? 1e-3 : 0.07);
  }
}

}  // namespace
}  // namespace mlxs::engine::golden
