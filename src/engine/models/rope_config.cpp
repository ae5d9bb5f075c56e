#include "engine/models/rope_config.h"

#include <fmt/format.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

namespace mlxs::engine {

namespace mx = mlx::core;

RopeArgs read_rope_args(ConfigReader& config, const std::string& file, double theta_default) {
  RopeArgs args;
  args.theta = config.number("rope_theta", theta_default);
  args.neighbours = config.boolean("rope_traditional", false);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto* scaling = config.object(key);
    if (scaling != nullptr) return read_rope_scaling(config, key, *scaling, file, args);
  }
  if (!(args.theta > 0)) config.reject("rope_theta", "has to be positive");
  return args;
}

RopeArgs read_rope_scaling(ConfigReader& config,
                           const std::string& key,
                           const boost::json::object& object,
                           const std::string& file,
                           RopeArgs args) {
  ConfigReader scaling(object, file);
  args.theta = scaling.number("rope_theta", args.theta);
  args.type = scaling.string("rope_type", scaling.string("type", args.type));
  if (args.type == "linear" || args.type == "llama3" || args.type == "yarn") {
    args.factor = scaling.number("factor");
  } else if (args.type != "default") {
    config.reject(
        key,
        fmt::format("has type '{}'; default, linear, llama3 and yarn are supported", args.type));
  }
  if (args.type == "llama3") {
    args.llama3.factor = args.factor;
    args.llama3.low_freq_factor = scaling.number("low_freq_factor", 1);
    args.llama3.high_freq_factor = scaling.number("high_freq_factor", 4);
    args.llama3.original_context = scaling.number("original_max_position_embeddings", 8192);
  }
  if (args.type == "yarn") {
    args.yarn.factor = args.factor;
    args.yarn.original_context = scaling.number("original_max_position_embeddings", 4096);
    args.yarn.beta_fast = scaling.number("beta_fast", 32);
    args.yarn.beta_slow = scaling.number("beta_slow", 1);
    args.yarn.mscale = scaling.number("mscale", 1);
    args.yarn.mscale_all_dim = scaling.number("mscale_all_dim", 0);
  }
  if (const auto status = scaling.status(); !status) config.reject(key, status.error().message);
  if (!(args.theta > 0) || !(args.factor > 0) || !(args.yarn.original_context > 0) ||
      !(args.yarn.beta_fast > 0) || !(args.yarn.beta_slow > 0)) {
    config.reject(key, "has to have positive numbers");
  }
  return args;
}

Rope make_rope(const RopeArgs& args, int dims, WeightReader& weights) {
  Rope rope{rope_freqs(dims, args.theta)};
  rope.neighbours = args.neighbours;
  if (args.type == "linear") rope.scale = static_cast<float>(1 / args.factor);
  if (args.type == "llama3") rope.freqs = llama3_rope_freqs(dims, args.theta, args.llama3);
  if (args.type == "yarn") {
    rope.freqs = yarn_rope_freqs(dims, args.theta, args.yarn);
    rope.magnitude = yarn_magnitude(args.yarn);
  }
  constexpr const char* kFactors = "rope_freqs.weight";
  if (weights.contains(kFactors)) {
    const mx::array factors = weights.vector_float32(kFactors, dims / 2);
    if (factors.size() == rope.freqs.size()) rope.freqs = mx::multiply(rope.freqs, factors);
  }
  mx::eval(rope.freqs);
  return rope;
}

}  // namespace mlxs::engine
