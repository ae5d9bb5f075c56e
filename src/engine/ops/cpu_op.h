#pragma once

#include <mlx/allocator.h>
#include <mlx/array.h>
#include <mlx/backend/cpu/encoder.h>
#include <mlx/primitives.h>
#include <mlx/utils.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace mlxs::engine {

/// An input of a CPU kernel: where it lies and how. Strides count elements.
struct CpuInput {
  const void* data;
  mlx::core::Shape shape;
  mlx::core::Strides strides;

  template <class T>
  [[nodiscard]] const T* as() const {
    return static_cast<const T*>(data);
  }
};

/// An operation of our own on CPU: `Kernel` is called as `kernel(inputs, out)` on MLX's stream
/// thread with std::vector<CpuInput> and a float* to a dense result. It holds all it needs by value
/// and must not throw.
template <class Kernel>
class CpuOp : public mlx::core::UnaryPrimitive {
 public:
  CpuOp(const char* name, Kernel kernel)
      : UnaryPrimitive(mlx::core::default_stream(mlx::core::Device::cpu)),
        name_(name),
        kernel_(std::move(kernel)) {}

  void eval_cpu(const std::vector<mlx::core::array>& arrays, mlx::core::array& out) override {
    out.set_data(mlx::core::allocator::malloc(out.nbytes()));
    auto& encoder = mlx::core::cpu::get_command_encoder(stream());
    std::vector<CpuInput> inputs;
    inputs.reserve(arrays.size());
    for (const auto& array : arrays) {
      encoder.set_input_array(array);
      inputs.push_back({array.data<void>(), array.shape(), array.strides()});
    }
    encoder.set_output_array(out);
    encoder.dispatch([kernel = kernel_, inputs = std::move(inputs), to = out.data<float>()] {
      kernel(inputs, to);
    });
  }
  void eval_gpu(const std::vector<mlx::core::array>&, mlx::core::array&) override {
    throw std::logic_error("an operation made for the CPU was given to a GPU");
  }
  const char* name() const override { return name_; }

 private:
  const char* name_;
  Kernel kernel_;
};

/// Whether kernels for float32 on CPU apply to `x`.
[[nodiscard]] inline bool on_cpu_float32(const mlx::core::array& x) {
  return mlx::core::default_device() == mlx::core::Device::cpu && x.dtype() == mlx::core::float32;
}

/// Its result: float32 of `shape`, lazy.
template <class Kernel>
[[nodiscard]] mlx::core::array cpu_op(const char* name,
                                      mlx::core::Shape shape,
                                      std::vector<mlx::core::array> inputs,
                                      Kernel kernel) {
  return mlx::core::array(std::move(shape),
                          mlx::core::float32,
                          std::make_shared<CpuOp<Kernel>>(name, std::move(kernel)),
                          std::move(inputs));
}

}  // namespace mlxs::engine
