#include "engine/ops/kv.h"

#ifdef MLXS_CUDA
#include "engine/ops/cuda/kv_append.h"
#endif

#include <mlx/backend/cpu/encoder.h>
#include <mlx/ops.h>
#include <mlx/primitives.h>
#include <mlx/utils.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

/// Copies rows [T, Hkv, D] into one pool array, whose layout is known from its shape.
struct Append {
  std::byte* pool;
  const std::byte* rows;
  const std::int32_t* slots;
  std::int64_t tokens, heads, block_tokens;
  std::int64_t token_stride, head_stride;  ///< Of `rows`, in bytes.
  std::size_t row_size;                    ///< A head's D elements, in bytes.

  void operator()() const {
    const auto size = static_cast<std::int64_t>(row_size);
    for (std::int64_t t = 0; t < tokens; ++t) {
      const std::int64_t block = slots[t] / block_tokens;
      const std::int64_t at = slots[t] % block_tokens;
      for (std::int64_t h = 0; h < heads; ++h) {
        std::byte* to = pool + ((block * heads + h) * block_tokens + at) * size;
        std::memcpy(to, rows + t * token_stride + h * head_stride, row_size);
      }
    }
  }
};

/// inputs: pool keys, pool values, keys, values, slots; outputs: the pool arrays again.
class KvAppend : public mx::Primitive {
 public:
  using mx::Primitive::Primitive;

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    auto& encoder = mx::cpu::get_command_encoder(stream());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const mx::array& pool = inputs[i];
      const mx::array& rows = inputs[i + 2];
      const mx::array& slots = inputs[4];
      outputs[i].copy_shared_buffer(pool);
      encoder.set_input_array(rows);
      encoder.set_input_array(slots);
      encoder.set_output_array(outputs[i]);
      const auto item = static_cast<std::int64_t>(rows.itemsize());
      encoder.dispatch(Append{
          .pool = reinterpret_cast<std::byte*>(outputs[i].data<char>()),
          .rows = reinterpret_cast<const std::byte*>(rows.data<char>()),
          .slots = slots.data<std::int32_t>(),
          .tokens = rows.shape(0),
          .heads = rows.shape(1),
          .block_tokens = pool.shape(2),
          .token_stride = rows.strides(0) * item,
          .head_stride = rows.strides(1) * item,
          .row_size = static_cast<std::size_t>(rows.shape(2) * item),
      });
    }
  }
  void eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) override {
    throw std::logic_error("kv_append's primitive runs on CPU only");
  }
  const char* name() const override { return "mlxs::KvAppend"; }
};

void check(const KvLayer& pool, const mx::array& rows, const mx::array& slots) {
  const mx::array& keys = pool.keys;
  if (keys.ndim() != 4 || rows.ndim() != 3 || rows.shape(1) != keys.shape(1) ||
      rows.shape(2) != keys.shape(3) || rows.dtype() != keys.dtype() ||
      slots.shape() != mx::Shape{rows.shape(0)} || slots.dtype() != mx::int32) {
    throw std::invalid_argument("[kv_append] rows, slots and pool do not fit each other");
  }
}

mx::array scatter_rows(const mx::array& pool, const mx::array& rows, const mx::array& slots) {
  const mx::array width = mx::array(pool.shape(2), mx::int32);
  const mx::array block = mx::floor_divide(slots, width);
  const mx::array at = mx::remainder(slots, width);
  // Updates are [T] + a window [1, Hkv, 1, D] of the pool.
  const mx::array updates = mx::expand_dims(mx::expand_dims(rows, 2), 1);
  return mx::scatter(pool, {block, at}, updates, {0, 2});
}

}  // namespace

KvLayer kv_append(const KvLayer& pool,
                  const mx::array& keys,
                  const mx::array& values,
                  const mx::array& slots) {
  check(pool, keys, slots);
  check(pool, values, slots);
#ifdef MLXS_CUDA
  if (cuda::can_kv_append(pool)) return cuda::kv_append(pool, keys, values, slots);
#endif
  if (mx::default_device() != mx::Device::cpu) {
    return {scatter_rows(pool.keys, keys, slots), scatter_rows(pool.values, values, slots)};
  }
  // The rows' last axis has to be dense; slices of a fused product are.
  const auto outputs =
      mx::array::make_arrays({pool.keys.shape(), pool.values.shape()},
                             {pool.keys.dtype(), pool.values.dtype()},
                             std::make_shared<KvAppend>(mx::default_stream(mx::Device::cpu)),
                             {pool.keys, pool.values, keys, values, slots});
  return {outputs[0], outputs[1]};
}

}  // namespace mlxs::engine
