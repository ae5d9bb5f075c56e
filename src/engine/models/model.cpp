#include "engine/models/model.h"

#include "engine/models/makers.h"

#include <boost/json/value.hpp>
#include <fmt/format.h>

#include <array>
#include <string>

namespace mlxs::engine {
namespace {

struct Architecture {
  std::string_view model_type;
  Result<std::unique_ptr<Model>> (*make)(const Checkpoint&, WeightReader&);
};
constexpr std::array<Architecture, 3> kArchitectures = {{
    {"llama", make_llama},
    {"qwen2", make_qwen2},
    {"qwen3", make_qwen3},
}};

}  // namespace

Result<std::unique_ptr<Model>> make_model(const Checkpoint& checkpoint, WeightReader& weights) {
  const auto* value = checkpoint.config.if_contains("model_type");
  const std::string model_type =
      value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.model_type == model_type) return architecture.make(checkpoint, weights);
  }
  return fail(ErrorCode::kInvalidRequest,
              fmt::format("[models] {}: architecture '{}' is not supported (llama, qwen2 and qwen3 "
                          "are)",
                          checkpoint.config_file,
                          model_type));
}

}  // namespace mlxs::engine
