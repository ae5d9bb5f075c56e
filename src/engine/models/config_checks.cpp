#include "engine/models/config_checks.h"

#include <boost/json/array.hpp>
#include <boost/json/string.hpp>
#include <boost/json/value.hpp>

#include <cstdint>

namespace mlxs::engine {
namespace {

constexpr std::int64_t kHeadsWidthMax = 1 << 24;  // Keeps every product of shapes within an int.

}  // namespace

void check_llama_like(ConfigReader& reader,
                      const boost::json::object& config,
                      int heads,
                      int kv_heads,
                      int head_dim) {
  if (heads % kv_heads != 0) {
    reader.reject("num_key_value_heads", "has to divide num_attention_heads");
  }
  if (head_dim % 2 != 0) reader.reject("head_dim", "has to be even");
  if (std::int64_t{heads} * head_dim > kHeadsWidthMax) {
    reader.reject("num_attention_heads", "times head_dim is too large");
  }
  if (reader.string("hidden_act", "silu") != "silu") {
    reader.reject("hidden_act", "other than silu is not supported");
  }
  if (reader.number("partial_rotary_factor", 1) != 1) {
    reader.reject("partial_rotary_factor", "other than 1 is not supported");
  }
  if (reader.boolean("rope_traditional", false)) {
    reader.reject("rope_traditional", "true is not supported");
  }
  if (reader.boolean("use_sliding_window", false)) {
    reader.reject("use_sliding_window", "true is not supported");
  }
  const auto* layer_types = config.if_contains("layer_types");
  if (layer_types == nullptr || !layer_types->is_array()) return;
  for (const auto& type : layer_types->get_array()) {
    if (type != "full_attention") {
      reader.reject("layer_types", "other than full_attention are not supported");
    }
  }
}

}  // namespace mlxs::engine
