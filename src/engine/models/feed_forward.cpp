#include "engine/models/feed_forward.h"

#include "engine/ops/gated.h"
#include "engine/ops/linear.h"

#include <vector>

namespace mlxs::engine {

namespace mx = mlx::core;

namespace {

std::vector<WeightReader::Part> gate_up(const FeedForwardSpec& spec, const std::string& prefix) {
  return {{prefix + "gate_proj", spec.intermediate_size},
          {prefix + "up_proj", spec.intermediate_size}};
}

}  // namespace

FeedForward::FeedForward(const FeedForwardSpec& spec,
                         int hidden_size,
                         const std::string& prefix,
                         WeightReader& weights)
    : activation_(spec.activation),
      gate_up_(weights.matrix(gate_up(spec, prefix), hidden_size)),
      down_(weights.matrix({{prefix + "down_proj", hidden_size}}, spec.intermediate_size)) {
  if (!spec.bias) return;
  gate_up_bias_ = weights.bias(gate_up(spec, prefix));
  down_bias_ = weights.bias({{prefix + "down_proj", hidden_size}});
}

mx::array FeedForward::operator()(const mx::array& x) const {
  return linear(gated(linear(x, gate_up_, gate_up_bias_), activation_), down_, down_bias_);
}

}  // namespace mlxs::engine
