#pragma once

#include "engine/load/config_reader.h"
#include "engine/load/weights.h"
#include "engine/ops/rope.h"

#include <boost/json/object.hpp>

#include <string>

namespace mlxs::engine {

/// The rope part of a configuration, in either of Hugging Face's spellings (`rope_theta` beside
/// `rope_scaling`, or both inside `rope_parameters`).
struct RopeArgs {
  std::string type = "default";  ///< default, linear, llama3 or yarn
  double theta = 10000;
  double factor = 1;        ///< All but default.
  bool neighbours = false;  ///< `rope_traditional`
  Llama3Scaling llama3;
  YarnScaling yarn;
};
/// Kinds that we don't have are rejected on `config`.
[[nodiscard]] RopeArgs read_rope_args(ConfigReader& config,
                                      const std::string& file,
                                      double theta_default);
/// The same from an object under `key` of `config`; `args` holds what is absent there.
[[nodiscard]] RopeArgs read_rope_scaling(ConfigReader& config,
                                         const std::string& key,
                                         const boost::json::object& scaling,
                                         const std::string& file,
                                         RopeArgs args);

/// The rotation for heads of `dims`. A GGUF brings llama3's stretch as a tensor of factors instead
/// of parameters: `rope_freqs.weight` [dims/2].
[[nodiscard]] Rope make_rope(const RopeArgs& args, int dims, WeightReader& weights);

}  // namespace mlxs::engine
