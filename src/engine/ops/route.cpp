#include "engine/ops/route.h"

#include "base/assert.h"
#include "engine/ops/cpu_op.h"

#include <mlx/allocator.h>
#include <mlx/backend/cpu/encoder.h>
#include <mlx/ops.h>
#include <mlx/primitives.h>
#include <mlx/utils.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

/// Everything the kernel reads, by value: it runs on MLX's stream thread.
struct Choose {
  const float* logits;
  std::int64_t token_stride, expert_stride;  ///< In elements.
  int tokens, experts, each;
  bool normalised;
  std::uint32_t* chosen;
  float* shares;

  void operator()() const {
    std::vector<std::uint32_t> order(static_cast<std::size_t>(experts));
    for (int t = 0; t < tokens; ++t) {
      const auto logit = [&](std::uint32_t expert) {
        return logits[t * token_stride + expert * expert_stride];
      };
      std::iota(order.begin(), order.end(), 0u);
      std::partial_sort(
          order.begin(), order.begin() + each, order.end(), [&](std::uint32_t a, std::uint32_t b) {
            return logit(a) > logit(b) || (logit(a) == logit(b) && a < b);
          });
      float sum = 0;
      const int summed = normalised ? each : experts;
      for (int i = 0; i < summed; ++i)
        sum += std::exp(logit(order[static_cast<std::size_t>(i)]) - logit(order[0]));
      for (int i = 0; i < each; ++i) {
        const std::uint32_t expert = order[static_cast<std::size_t>(i)];
        chosen[t * each + i] = expert;
        shares[t * each + i] = std::exp(logit(expert) - logit(order[0])) / sum;
      }
    }
  }
};

/// input: logits; outputs: experts, shares.
class Route : public mx::Primitive {
 public:
  Route(int each, bool normalised)
      : Primitive(mx::default_stream(mx::Device::cpu)), each_(each), normalised_(normalised) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    auto& encoder = mx::cpu::get_command_encoder(stream());
    const mx::array& logits = inputs[0];
    encoder.set_input_array(logits);
    for (mx::array& output : outputs) {
      output.set_data(mx::allocator::malloc(output.nbytes()));
      encoder.set_output_array(output);
    }
    encoder.dispatch(Choose{.logits = logits.data<float>(),
                            .token_stride = logits.strides(0),
                            .expert_stride = logits.strides(1),
                            .tokens = logits.shape(0),
                            .experts = logits.shape(1),
                            .each = each_,
                            .normalised = normalised_,
                            .chosen = outputs[0].data<std::uint32_t>(),
                            .shares = outputs[1].data<float>()});
  }
  void eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) override {
    throw std::logic_error("an operation made for the CPU was given to a GPU");
  }
  const char* name() const override { return "mlxs::Route"; }

 private:
  int each_;
  bool normalised_;
};

}  // namespace

Routes route(const mx::array& logits, int each, bool normalised) {
  MLXS_ASSERT(logits.ndim() == 2 && each >= 1 && each <= logits.shape(1));
  if (on_cpu_float32(logits)) {
    const mx::Shape shape{logits.shape(0), each};
    const auto outputs = mx::array::make_arrays({shape, shape},
                                                {mx::uint32, mx::float32},
                                                std::make_shared<Route>(each, normalised),
                                                {logits});
    return {outputs[0], outputs[1]};
  }
  const int first = logits.shape(1) - each;
  const mx::array experts =
      mx::slice(mx::argpartition(logits, first, -1), {0, first}, logits.shape());
  const mx::array chosen = mx::take_along_axis(logits, experts, -1);
  // A softmax over all experts, normalised over the chosen ones, is one over the chosen ones.
  if (normalised) return {experts, mx::softmax(chosen, -1, true)};
  const mx::array wide = mx::astype(logits, mx::float32);
  return {experts,
          mx::astype(mx::exp(mx::subtract(chosen, mx::logsumexp(wide, -1, true))), logits.dtype())};
}

}  // namespace mlxs::engine
