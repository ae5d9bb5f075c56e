#include "engine/models/rope_config.h"

#include <fmt/format.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

namespace mlxs::engine {

namespace mx = mlx::core;

RopeArgs read_rope_args(ConfigReader& config, const std::string& file) {
  RopeArgs args;
  args.theta = config.number("rope_theta", args.theta);
  std::string key = "rope_scaling";
  const auto* nested = config.object(key);
  if (nested == nullptr) {
    key = "rope_parameters";
    nested = config.object(key);
  }
  if (nested != nullptr) {
    ConfigReader scaling(*nested, file);
    args.theta = scaling.number("rope_theta", args.theta);
    args.type = scaling.string("rope_type", scaling.string("type", args.type));
    if (args.type == "linear" || args.type == "llama3") {
      args.factor = scaling.number("factor");
    } else if (args.type != "default") {
      config.reject(
          key, fmt::format("has type '{}'; default, linear and llama3 are supported", args.type));
    }
    if (args.type == "llama3") {
      args.llama3.factor = args.factor;
      args.llama3.low_freq_factor = scaling.number("low_freq_factor", 1);
      args.llama3.high_freq_factor = scaling.number("high_freq_factor", 4);
      args.llama3.original_context = scaling.number("original_max_position_embeddings", 8192);
    }
    if (const auto status = scaling.status(); !status) config.reject(key, status.error().message);
  }
  if (!(args.theta > 0) || !(args.factor > 0)) config.reject(key, "has to have positive numbers");
  return args;
}

Rope make_rope(const RopeArgs& args, int dims, WeightReader& weights) {
  Rope rope{args.type == "llama3" ? llama3_rope_freqs(dims, args.theta, args.llama3)
                                  : rope_freqs(dims, args.theta)};
  if (args.type == "linear") rope.scale = static_cast<float>(1 / args.factor);
  constexpr const char* kFactors = "rope_freqs.weight";
  if (weights.contains(kFactors)) {
    const mx::array factors = weights.vector_float32(kFactors, dims / 2);
    if (factors.size() == rope.freqs.size()) rope.freqs = mx::multiply(rope.freqs, factors);
  }
  mx::eval(rope.freqs);
  return rope;
}

}  // namespace mlxs::engine
