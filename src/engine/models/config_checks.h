#pragma once

#include "engine/load/config_reader.h"

#include <boost/json/object.hpp>

namespace mlxs::engine {

/// Rejects, by key, what would change the arithmetic of llama and its relatives in ways we don't
/// have (other activations, partial or interleaved rotation, sliding windows), and head counts that
/// don't go together. A checkpoint is never run as something it is not.
void check_llama_like(
    ConfigReader& reader, const boost::json::object& config, int heads, int kv_heads, int head_dim);

}  // namespace mlxs::engine
