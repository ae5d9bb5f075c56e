#include "engine/ops/cuda/kv_append.h"

#include "engine/ops/cuda/kernels.h"
#include "engine/ops/cuda/module.h"

#include <mlx/ops.h>
#include <mlx/primitives.h>
#include <mlx/utils.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <vector>

namespace mlxs::engine::cuda {

namespace mx = mlx::core;

namespace {

constexpr int kWordBytes = 16;

/// inputs: pool keys, pool values, keys, values, slots; outputs: the pool arrays again.
class KvAppend : public mx::Primitive {
 public:
  using mx::Primitive::Primitive;

  void eval_gpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    auto& encoder = mx::cu::get_command_encoder(stream());
    const mx::array& slots = inputs[4];
    KvAppendArgs args{};
    encoder.set_input_array(slots);
    for (std::size_t i = 0; i < 2; ++i) {
      outputs[i].copy_shared_buffer(inputs[i]);
      const mx::array& rows = inputs[i + 2];
      encoder.set_input_array(inputs[i]);
      encoder.set_input_array(rows);
      encoder.set_output_array(outputs[i]);
      const auto words = static_cast<long long>(kWordBytes / rows.itemsize());
      if (rows.strides(2) != 1 || rows.strides(0) % words != 0 || rows.strides(1) % words != 0)
        throw std::logic_error("[kv_append] rows are not laid out in words of 16 bytes");
      args.rows[i] = device_data<const void>(rows);
      args.pool[i] = device_data(outputs[i]);
      args.token_stride[i] = rows.strides(0) / words;
      args.head_stride[i] = rows.strides(1) / words;
    }
    const mx::array& pool = inputs[0];
    args.slots = device_data<const int>(slots);
    args.heads = pool.shape(1);
    args.block_tokens = pool.shape(2);
    args.row_words =
        static_cast<int>(static_cast<std::size_t>(pool.shape(3)) * pool.itemsize()) / kWordBytes;
    const int threads = std::clamp(args.heads * args.row_words, 32, 256);
    const dim3 grid{static_cast<unsigned>(slots.shape(0)), 2, 1};
    launch(encoder,
           kernel(stream(), "kv_append"),
           grid,
           dim3{static_cast<unsigned>(threads), 1, 1},
           0,
           args);
  }
  void eval_cpu(const std::vector<mx::array>&, std::vector<mx::array>&) override {
    throw std::logic_error("an operation made for a GPU was given to the CPU");
  }
  const char* name() const override { return "mlxs::cuda::KvAppend"; }
};

}  // namespace

bool can_kv_append(const KvLayer& pool) {
  return mx::default_device() == mx::Device::gpu &&
         static_cast<std::size_t>(pool.keys.shape(3)) * pool.keys.itemsize() % kWordBytes == 0;
}

KvLayer kv_append(const KvLayer& pool,
                  const mx::array& keys,
                  const mx::array& values,
                  const mx::array& slots) {
  const auto outputs =
      mx::array::make_arrays({pool.keys.shape(), pool.values.shape()},
                             {pool.keys.dtype(), pool.values.dtype()},
                             std::make_shared<KvAppend>(mx::default_stream(mx::Device::gpu)),
                             {pool.keys, pool.values, keys, values, slots});
  return {outputs[0], outputs[1]};
}

}  // namespace mlxs::engine::cuda
