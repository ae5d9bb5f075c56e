#pragma once

#include <mlx/array.h>
#include <mlx/backend/cuda/device.h>
#include <mlx/stream.h>

#include <cuda.h>

namespace mlxs::engine::cuda {

/// One of our kernels (kernels.cu), loaded when it is first asked for and kept; `shared_bytes` is
/// the most shared memory it will be started with. Throws std::runtime_error when the driver
/// refuses. The stream's thread only; the stream's device is current afterwards.
[[nodiscard]] CUfunction kernel(const mlx::core::Stream& stream,
                                const char* name,
                                unsigned shared_bytes = 0);

/// Adds a launch to what the stream runs next. Inputs and outputs have been named to the encoder.
template <class Args>
void launch(mlx::core::cu::CommandEncoder& encoder,
            CUfunction function,
            dim3 grid,
            dim3 block,
            unsigned shared_bytes,
            Args args) {
  void* params[] = {&args};
  encoder.add_kernel_node_raw(function, grid, block, dim3{1, 1, 1}, shared_bytes, params);
}

/// The device's address of an array's first element.
template <class T = void>
[[nodiscard]] T* device_data(const mlx::core::array& array) {
  return mlx::core::gpu_ptr<T>(const_cast<mlx::core::array&>(array));
}

}  // namespace mlxs::engine::cuda
